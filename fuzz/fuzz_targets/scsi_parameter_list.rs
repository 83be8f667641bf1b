#![no_main]

#[path = "../scsi.rs"]
#[allow(dead_code, reason = "each target uses one of them")]
mod scsi;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scsi::scsi_parameter_list(data));
