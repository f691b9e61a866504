//! Where the operator is asked: health, metrics, and the file that says at which address.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

/// The file's name in the data directory.
const ADDRESSES: &str = "addresses.json";

/// Writes where this process listens, whole or not at all.
pub fn write_addresses(data_directory: &Path, http: SocketAddr) -> std::io::Result<()> {
    let text = json!({ "http": http.to_string(), "pid": std::process::id() }).to_string();
    let unfinished = data_directory.join(format!("{ADDRESSES}.new"));
    let mut file = std::fs::File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, data_directory.join(ADDRESSES))
}
