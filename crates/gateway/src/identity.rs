//! A TLS identity: a private key with its self-signed certificate, in one PEM file that only its owner may read.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::Fingerprint;

/// Longer files are not identities.
const LONGEST_FILE_BYTES: u64 = 64 * 1024;

/// A private key with its certificate. Clones share it. `Debug` shows the fingerprint only.
#[derive(Clone)]
pub struct Identity {
    certified_key: Arc<CertifiedKey>,
    pem: Arc<Zeroizing<String>>,
    fingerprint: Fingerprint,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The operating system's random numbers, or the encoding, failed.
    #[error("cannot generate a TLS key and certificate")]
    Generate(#[source] rcgen::Error),
    /// Not a file that can be read.
    #[error("cannot read the TLS identity {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Others may read the key.
    #[error(
        "the TLS identity {path} may be read by others (mode {mode:o}); run `chmod 600 {path}`, and consider the key known"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not PEM with a certificate and its key.
    #[error("the TLS identity is not usable: {reason}; expected PEM with one certificate and its private key")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// There is one already.
    #[error("{path} exists; move it away to make a new TLS identity (its fingerprint must then be published again)")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write the TLS identity {path}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
}

impl Identity {
    /// A new ECDSA P-256 key and a certificate that carries it and says nothing: no name, no end.
    pub fn generate() -> Result<Self, IdentityError> {
        let key = rcgen::KeyPair::generate().map_err(IdentityError::Generate)?;
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "spheron");
        let certificate = parameters.self_signed(&key).map_err(IdentityError::Generate)?;
        let private = Zeroizing::new(key.serialize_pem());
        Self::from_pem(&Zeroizing::new(format!("{}{}", certificate.pem(), private.as_str())))
    }

    /// From PEM text with one certificate and its private key (PKCS#8, SEC1 or PKCS#1).
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        let malformed = |reason: String| IdentityError::Malformed { reason };
        let certificate = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(|error| malformed(format!("certificate: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| malformed(format!("key: {error}")))?;
        let fingerprint = Fingerprint::of_certificate(&certificate).map_err(|error| malformed(error.to_string()))?;
        let certified_key = CertifiedKey::from_der(vec![certificate], key, &ring::default_provider())
            .map_err(|error| malformed(error.to_string()))?;
        Ok(Self {
            certified_key: Arc::new(certified_key),
            pem: Arc::new(Zeroizing::new(text.to_owned())),
            fingerprint,
        })
    }

    /// Reads a PEM file with certificate and key; refuses one that everyone may read.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        Self::from_pem(&read_private(path)?).map_err(|error| error.in_file(path))
    }

    /// Reads certificate and key from two PEM files; refuses a key that everyone may read. Both may be the same file.
    pub fn load_pair(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        if certificate == key {
            return Self::load(key);
        }
        let key_text = read_private(key)?;
        let file = std::fs::File::open(certificate);
        let mut text = Zeroizing::new(String::new());
        file.and_then(|file| file.take(LONGEST_FILE_BYTES).read_to_string(&mut text))
            .map_err(|source| IdentityError::Unreadable {
                path: certificate.to_owned(),
                source,
            })?;
        text.push('\n');
        text.push_str(&key_text);
        Self::from_pem(&text).map_err(|error| error.in_file(certificate))
    }

    /// Writes a new PEM file, mode 0600, whole or not at all; never over an existing one.
    pub fn store(&self, path: &Path) -> Result<(), IdentityError> {
        if path.exists() {
            return Err(IdentityError::Exists { path: path.to_owned() });
        }
        self.write(path).map_err(|source| IdentityError::Unwritable {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads the file, or generates an identity and stores it where there is none yet.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let identity = Self::generate()?;
                identity.store(path)?;
                Ok(identity)
            }
            outcome => outcome,
        }
    }

    /// What the certificate registry must list for the holder's address.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Certificate and private key as PEM.
    pub fn expose_pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        self.certified_key.clone()
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.new", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(self.pem.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&temporary, path))
            .and_then(|()| std::fs::File::open(directory)?.sync_all());
        if written.is_err() {
            // Nothing more can be done about a file that can be neither written nor removed.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}

impl IdentityError {
    fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Malformed { reason } => Self::Malformed {
                reason: format!("{}: {reason}", path.display()),
            },
            other => other,
        }
    }
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    // A group may read: secrets mounted into containers are given to one.
    if mode & 0o007 != 0 {
        return Err(IdentityError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LONGEST_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_identity_is_the_same_and_only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("new").join("tls.pem");
        let identity = Identity::load_or_create(&path).expect("created");
        assert_eq!(
            Identity::load_or_create(&path).expect("loaded").fingerprint(),
            identity.fingerprint()
        );
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(
            std::fs::read_dir(path.parent().expect("parent")).expect("list").count(),
            1,
            "temporary file left"
        );
        assert!(matches!(identity.store(&path), Err(IdentityError::Exists { .. })));
    }

    #[test]
    fn a_key_that_everyone_may_read_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("tls.pem");
        Identity::generate().expect("generate").store(&path).expect("store");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        let error = Identity::load(&path).expect_err("mode 644");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn certificate_and_key_may_be_two_files() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let identity = Identity::generate().expect("generate");
        let key_at = identity.expose_pem().find("-----BEGIN PRIVATE KEY").expect("key");
        let (certificate, key) = (
            directory.path().join("certificate.pem"),
            directory.path().join("key.pem"),
        );
        std::fs::write(&certificate, &identity.expose_pem()[..key_at]).expect("write");
        std::fs::write(&key, &identity.expose_pem()[key_at..]).expect("write");
        let exposed = Identity::load_pair(&certificate, &key).expect_err("mode 644");
        assert!(matches!(exposed, IdentityError::Exposed { .. }), "{exposed}");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        let loaded = Identity::load_pair(&certificate, &key).expect("loaded");
        assert_eq!(loaded.fingerprint(), identity.fingerprint());
    }

    #[test]
    fn the_key_must_be_the_certificates() {
        let (one, other) = (Identity::generate().expect("one"), Identity::generate().expect("other"));
        let certificate = one
            .expose_pem()
            .split_inclusive("-----END CERTIFICATE-----")
            .next()
            .expect("certificate");
        let key = &other.expose_pem()[other.expose_pem().find("-----BEGIN PRIVATE KEY").expect("key")..];
        let error = Identity::from_pem(&format!("{certificate}\n{key}")).expect_err("mixed");
        assert!(matches!(error, IdentityError::Malformed { .. }), "{error}");
        for text in ["", certificate, key] {
            assert!(matches!(Identity::from_pem(text), Err(IdentityError::Malformed { .. })));
        }
    }

    #[test]
    fn the_fingerprint_is_that_of_the_public_key_as_another_library_encodes_it() {
        use rcgen::PublicKeyData;
        let identity = Identity::generate().expect("generate");
        let key = rcgen::KeyPair::from_pem(
            &identity.expose_pem()[identity.expose_pem().find("-----BEGIN PRIVATE KEY").expect("key")..],
        )
        .expect("parse");
        assert_eq!(
            Fingerprint::of_public_key(&key.subject_public_key_info()),
            identity.fingerprint()
        );
    }

    #[test]
    fn debug_shows_no_key() {
        let identity = Identity::generate().expect("generate");
        let debug = format!("{identity:?}");
        assert!(
            debug.contains(&identity.fingerprint().to_string()) && !debug.contains("PRIVATE"),
            "{debug}"
        );
    }
}
