//! Image references: what `nginx`, `ghcr.io/org/app:1.2` and `127.0.0.1:5000/app@sha256:...` stand for, and which
//! registry may see which login.

use std::fmt;
use std::str::FromStr;

/// Where references without a registry point to.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The longest reference that is read; registries accept 255 bytes of name and 128 of tag.
const MAXIMUM_LENGTH: usize = 512;

/// An image reference, spelled out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// Registry host, with a port where one was given: `docker.io`, `127.0.0.1:5000`.
    pub registry: String,
    /// Repository in that registry: `library/nginx`.
    pub repository: String,
    /// Tag, `latest` where neither tag nor digest was given.
    pub tag: Option<String>,
    /// Digest, `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{reference}` is not an image reference: {problem}")]
pub struct InvalidReference {
    /// The text, cut at 100 characters.
    pub reference: String,
    /// What is wrong with it.
    pub problem: String,
}

impl ImageReference {
    /// `registry/repository`, as engines write it in digests: the default registry stays unnamed, and so does its
    /// `library/`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        self.repository
            .strip_prefix("library/")
            .filter(|rest| !rest.contains('/'))
            .unwrap_or(&self.repository)
            .to_owned()
    }

    /// The full name without tag or digest: what is asked of the engine.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag or digest to pull: the digest where there is one.
    pub fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// Whether a login for `registry` (as a manifest writes it) may be sent to this image's registry.
    pub fn accepts_login_for(&self, registry: &str) -> bool {
        normalise_registry(registry) == self.registry
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.full_name())?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |problem: &str| InvalidReference {
            reference: text.chars().take(100).collect(),
            problem: problem.to_owned(),
        };
        if text.is_empty() || text.len() > MAXIMUM_LENGTH {
            return Err(invalid("it must have between 1 and 512 bytes"));
        }

        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(invalid(
                "after `@` comes `sha256:` and 64 lower-case hexadecimal digits",
            ));
        }

        // A colon in the last component is a tag; one before a slash is the registry's port.
        let last_component = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last_component..].split_once(':') {
            Some((component, tag)) => (&rest[..last_component + component.len()], Some(tag)),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid(
                "a tag has letters, digits, `_`, `.` and `-`, at most 128, and does not begin with `.` or `-`",
            ));
        }

        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (normalise_registry(first), path),
            _ => (DEFAULT_REGISTRY.to_owned(), name),
        };
        if !path.split('/').all(is_path_component) {
            return Err(invalid(
                "a repository has lower-case letters and digits, joined by `.`, `_`, `__` or dashes, between slashes",
            ));
        }
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self {
            registry,
            repository,
            tag,
            digest: digest.map(str::to_owned),
        })
    }
}

/// The first component names a registry when it looks like a host: it has a dot, a port, an upper-case letter, or is
/// `localhost`. (`org/app` is a repository of the default registry.)
fn is_registry(component: &str) -> bool {
    let host_shaped = component == "localhost"
        || component.contains(['.', ':'])
        || component.bytes().any(|character| character.is_ascii_uppercase());
    host_shaped
        && !component.is_empty()
        && component
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
}

/// One spelling for each registry: no scheme, no path, lower case, and one name for the default registry's many.
fn normalise_registry(text: &str) -> String {
    let text = text.trim();
    let text = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or(text);
    let host = text.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io"
        | "registry-1.docker.io"
        | "registry.hub.docker.com"
        | "hub.docker.com"
        | "www.docker.com" => DEFAULT_REGISTRY.to_owned(),
        _ => host,
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64
            && digits
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_path_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    bytes.split(|byte| is_word(*byte)).all(|separator| match separator {
        b"" | b"." | b"_" | b"__" => true,
        dashes => dashes.iter().all(|byte| *byte == b'-'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> ImageReference {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn references_are_spelled_out() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("org/app", "docker.io/org/app:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/org/app:2", "docker.io/org/app:2"),
            ("ghcr.io/org/team/app:v1", "ghcr.io/org/team/app:v1"),
            ("localhost/app", "localhost/app:latest"),
            ("127.0.0.1:5000/app:dev", "127.0.0.1:5000/app:dev"),
            ("registry:5000/app", "registry:5000/app:latest"),
            ("a__b/c-d--e.f_g", "docker.io/a__b/c-d--e.f_g:latest"),
        ] {
            assert_eq!(parse(text).to_string(), full, "{text}");
        }
        let by_digest = parse(&format!("ghcr.io/app:1@{digest}"));
        assert_eq!(by_digest.version(), digest);
        assert_eq!(by_digest.tag.as_deref(), Some("1"));
        assert_eq!(parse(&format!("app@{digest}")).tag, None);
    }

    #[test]
    fn engines_write_the_default_registry_short() {
        assert_eq!(parse("nginx").familiar_name(), "nginx");
        assert_eq!(parse("org/app").familiar_name(), "org/app");
        assert_eq!(parse("ghcr.io/app").familiar_name(), "ghcr.io/app");
        assert_eq!(parse("docker.io/library/a/b").familiar_name(), "library/a/b");
    }

    #[test]
    fn logins_go_to_their_own_registry_only() {
        let private = parse("ghcr.io/org/app");
        assert!(private.accepts_login_for("ghcr.io"));
        assert!(private.accepts_login_for("https://GHCR.io/"));
        assert!(!private.accepts_login_for("docker.io"));
        assert!(!private.accepts_login_for("ghcr.io.evil.example"));
        assert!(!private.accepts_login_for("ghcr.io:443"));
        assert!(parse("org/app").accepts_login_for("index.docker.io/v1/"));
        assert!(!parse("127.0.0.1:5000/app").accepts_login_for("127.0.0.1"));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "Nginx",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a b",
            "a...b",
            "a___b",
            "-a",
            "a@md5:00",
            "ghcr.io/",
            "http://a/b",
            "a:b:c",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "`{text}` was accepted");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_and_the_full_form_is_stable(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(parse(&reference.to_string()), reference);
            }
        }

        #[test]
        fn plausible_references_are_stable(text in "([a-z]{1,5}\\.[a-z]{1,3}(:[0-9]{2,4})?/)?[a-z0-9._-]{1,8}(/[a-z0-9]{1,5})?(:[A-Za-z0-9._-]{1,9})?") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(parse(&reference.to_string()), reference);
            }
        }
    }
}
