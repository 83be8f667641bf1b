//! Between Rust types and SQLite's.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::fault::{bad_request, damaged, internal};
use crate::protocol::Refusal;

/// SQLite's integers are signed.
pub(crate) fn to_db(n: u64) -> Result<i64, Refusal> {
    i64::try_from(n).map_err(|_| bad_request(format!("the number {n} is too large"), "no medium has that many objects"))
}

pub(crate) fn from_db(n: i64) -> Result<u64, Refusal> {
    u64::try_from(n).map_err(|_| damaged("a number in the catalogue is negative"))
}

/// An enum's name on the wire, which is its name in the catalogue too.
pub(crate) fn name(value: impl Serialize) -> Result<String, Refusal> {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => Ok(name),
        other => Err(internal(format!("no name: {other:?}"))),
    }
}

pub(crate) fn named<T: DeserializeOwned>(name: String) -> Result<T, Refusal> {
    serde_json::from_value(Value::String(name))
        .map_err(|e| damaged(format!("the catalogue holds an unknown name: {e}")))
}

pub(crate) fn uuid(text: &str) -> Result<Uuid, Refusal> {
    text.parse().map_err(|_| damaged(format!("the catalogue holds {text:?} where a UUID belongs")))
}

pub(crate) fn blob32(bytes: &[u8]) -> Result<[u8; 32], Refusal> {
    bytes.try_into().map_err(|_| damaged("the catalogue holds a hash of a wrong length"))
}

pub(crate) fn blob16(bytes: &[u8]) -> Result<[u8; 16], Refusal> {
    bytes.try_into().map_err(|_| damaged("the catalogue holds an identifier of a wrong length"))
}
