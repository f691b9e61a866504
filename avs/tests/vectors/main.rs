//! Everything that is signed, hashed or ranked, against the committed vectors of an independent implementation
//! (`avs/vectors/generate.py`).

mod bn254;
mod draws;
mod matching;
mod responses;
mod tasks;
mod words;

use std::{fs, path::PathBuf};

use serde::de::DeserializeOwned;

/// Reads one committed file.
fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; write it with avs/vectors/generate.py", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
