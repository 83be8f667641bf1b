//! Overwriting what held plaintext, at the speed of memory. [`zeroize::Zeroize`] writes byte by byte, which takes as long for a
//! record as decrypting it did; it is for keys, and for what is given up.

/// Overwrites these bytes with zeros, which the compiler cannot leave out.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    zeroize::optimization_barrier(bytes);
}

/// The same for all that a buffer has room for.
pub fn wipe_whole(buffer: &mut Vec<u8>) {
    buffer.resize(buffer.capacity(), 0);
    wipe(buffer);
}
