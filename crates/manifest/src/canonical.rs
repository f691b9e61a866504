//! One text for one manifest, its hash, and how it travels to the provider.

use alloy_primitives::{B256, Keccak256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Manifest;
use crate::validate::{InvalidManifest, validate};

/// Version of the hashed text; the first byte that is hashed.
pub const MANIFEST_VERSION: u8 = 1;

/// The largest manifest, in bytes of canonical JSON. As a string inside other JSON it stays below 1 MiB.
pub const MAXIMUM_MANIFEST_BYTES: usize = 500 * 1024;

/// The largest encoded [`SaltedManifest`], in bytes: what a receiver must be ready to read.
pub const MAXIMUM_ENCODED_BYTES: usize = MAXIMUM_MANIFEST_BYTES + 1024;

/// A manifest with the salt that its hash on chain was made with.
///
/// The salt never goes on chain: whoever had it could find a guessable secret (`PASSWORD=test`) by trying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaltedManifest {
    /// 32 random bytes, made anew for each order.
    pub salt: B256,
    /// What is deployed.
    pub manifest: Manifest,
}

/// Why bytes are no manifest. Messages never repeat values: they may be secrets.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than any manifest.
    #[error("the manifest has {length} bytes, the most is {maximum}")]
    TooLarge {
        /// Bytes received.
        length: usize,
        /// Bytes allowed.
        maximum: usize,
    },
    /// Not the JSON of a manifest.
    #[error(
        "the manifest is not understood at line {line}, column {column} ({kind}); was it written by another version?"
    )]
    Syntax {
        /// Line in the received text, from 1.
        line: usize,
        /// Column in the received text, from 1.
        column: usize,
        /// What kind of error it is.
        kind: &'static str,
    },
    /// Another version of the format.
    #[error("the manifest has version {found}, this program reads version {MANIFEST_VERSION}")]
    Version {
        /// The version received.
        found: u8,
    },
    /// Understood, but written otherwise than it is hashed.
    #[error("the manifest is not in its canonical form: keys sorted, no spaces, no defaults spelled out")]
    NotCanonical,
    /// A value that no deployment file produces.
    #[error("the manifest is invalid")]
    Invalid(#[from] InvalidManifest),
}

#[derive(Serialize)]
struct EnvelopeOut<'m> {
    version: u8,
    salt: B256,
    manifest: &'m Manifest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeIn {
    version: u8,
    salt: B256,
    manifest: Manifest,
}

impl SaltedManifest {
    /// The manifest hash of the order terms: keccak256(version, salt, canonical JSON).
    pub fn hash(&self) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update([MANIFEST_VERSION]);
        hasher.update(self.salt);
        hasher.update(canonical_json(&self.manifest));
        hasher.finalize()
    }

    /// As it is stored by its owner and sent to the provider: a JSON object of version, salt and manifest.
    pub fn encode(&self) -> Vec<u8> {
        canonical_json(&EnvelopeOut {
            version: MANIFEST_VERSION,
            salt: self.salt,
            manifest: &self.manifest,
        })
    }

    /// Reads what [`Self::encode`] wrote, from anybody: bounded, complete, and within every limit of a deployment file.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAXIMUM_ENCODED_BYTES {
            return Err(ManifestError::TooLarge {
                length: bytes.len(),
                maximum: MAXIMUM_ENCODED_BYTES,
            });
        }
        let envelope: EnvelopeIn = serde_json::from_slice(bytes).map_err(|error| syntax_error(&error))?;
        if envelope.version != MANIFEST_VERSION {
            return Err(ManifestError::Version {
                found: envelope.version,
            });
        }
        validate(&envelope.manifest)?;
        Ok(Self {
            salt: envelope.salt,
            manifest: envelope.manifest,
        })
    }

    /// Puts together what travelled as salt and canonical JSON, with the same checks as [`Self::decode`]. Text that is
    /// not canonical is refused: what is stored must be what was hashed.
    pub fn from_parts(salt: B256, json: &[u8]) -> Result<Self, ManifestError> {
        if json.len() > MAXIMUM_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge {
                length: json.len(),
                maximum: MAXIMUM_MANIFEST_BYTES,
            });
        }
        let manifest: Manifest = serde_json::from_slice(json).map_err(|error| syntax_error(&error))?;
        validate(&manifest)?;
        if canonical_json(&manifest) != json {
            return Err(ManifestError::NotCanonical);
        }
        Ok(Self { salt, manifest })
    }
}

fn syntax_error(error: &serde_json::Error) -> ManifestError {
    let kind = match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "a missing, unknown or wrong field",
        serde_json::error::Category::Eof => "cut off",
    };
    ManifestError::Syntax {
        line: error.line(),
        column: error.column(),
        kind,
    }
}

/// Hash of a manifest without salt: the same file always has the same. It must not be published, because secrets could
/// be found from it by trying.
pub fn content_hash(manifest: &Manifest) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update([MANIFEST_VERSION]);
    hasher.update(canonical_json(manifest));
    hasher.finalize()
}

/// JSON without spaces, the keys of every object sorted by their bytes, numbers whole and in plain digits.
///
/// The keys are sorted here and not by the JSON library, whose order depends on features that other crates may switch
/// on.
pub fn canonical_json(value: &impl Serialize) -> Vec<u8> {
    let mut text = String::new();
    match serde_json::to_value(value) {
        Ok(value) => write_value(&value, &mut text),
        // These types hold nothing that JSON cannot: keys are strings, numbers are whole.
        Err(error) => unreachable!("a manifest is always JSON: {error}"),
    }
    text.into_bytes()
}

fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => text.push_str(&value.to_string()),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| key.as_bytes());
            text.push('{');
            for (index, (key, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_value(item, text);
            }
            text.push('}');
        }
    }
}
