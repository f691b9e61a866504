//! The small texts of a deployment file: amounts with a unit, names, ports, hosts. Each function accepts exactly one
//! grammar and says, when it refuses, what it expected. The same functions check a manifest that came over the network.

use std::ops::RangeInclusive;

use crate::decimal::Decimal;
use crate::decode::Refusal;

/// Most seconds that an order may last: its duration has 29 bits on chain (about 17 years).
pub const MAXIMUM_DURATION_SECONDS: u64 = (1 << 29) - 1;

const DURATION: &str = "a duration such as 90s, 30min, 2h, 7d, 1mon (30 days) or 1y (365 days)";
const BYTES: &str = "a size such as 512Mi, 1.5Gi or 2G (k, M, G, T, P, E count in thousands; with i in 1024s)";
const CPU: &str = "CPU cores such as 2 or 0.5, or thousandths such as 500m";
const LABEL: &str = "a name of at most 63 lower-case letters, digits and `-`, with a letter or digit at both ends";

/// Seconds of a duration.
pub(crate) fn duration(text: &str) -> Result<u64, Refusal> {
    let refusal = || Refusal::expected(DURATION);
    let digits = text.len()
        - text
            .trim_start_matches(|character: char| character.is_ascii_digit())
            .len();
    let (count, unit) = text.split_at(digits);
    let unit_seconds: u64 = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "mon" => 30 * 86_400,
        "y" => 365 * 86_400,
        "m" => return Err(refusal().hint("`m` could be minutes or months: write `min` or `mon`")),
        "" if !count.is_empty() => return Err(refusal().hint(format!("add the unit, for example {count}h"))),
        "hr" | "hrs" | "hour" | "hours" => return Err(refusal().hint("write `h` for hours")),
        "sec" | "secs" | "second" | "seconds" => return Err(refusal().hint("write `s` for seconds")),
        "mins" | "minute" | "minutes" => return Err(refusal().hint("write `min` for minutes")),
        "day" | "days" => return Err(refusal().hint("write `d` for days")),
        "month" | "months" => return Err(refusal().hint("write `mon` for months of 30 days")),
        "year" | "years" => return Err(refusal().hint("write `y` for years of 365 days")),
        _ => return Err(refusal()),
    };
    if count.is_empty() {
        return Err(refusal());
    }
    let too_long = || Refusal::expected(format!("at most {MAXIMUM_DURATION_SECONDS} seconds (about 17 years)"));
    let count: u64 = count.parse().map_err(|_| too_long())?;
    match count.checked_mul(unit_seconds) {
        Some(0) => Err(Refusal::expected("a duration longer than nothing")),
        Some(seconds) if seconds <= MAXIMUM_DURATION_SECONDS => Ok(seconds),
        _ => Err(too_long()),
    }
}

/// Seconds in the units of a deployment file, to the second: `1d 2h 30min`.
pub fn duration_text(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let (mut rest, mut parts) = (seconds, Vec::new());
    for (size, unit) in UNITS {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.join(" ")
    }
}

/// Bytes of a size; fractions of a byte round up.
pub(crate) fn bytes(text: &str) -> Result<u64, Refusal> {
    let refusal = || Refusal::expected(BYTES);
    let (number, suffix) = split_number(text);
    let unit: u128 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "E" => 1_000_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        other => return Err(bytes_hint(other).map_or_else(refusal, |hint| refusal().hint(hint))),
    };
    let number: Decimal = number.parse().map_err(|_| refusal())?;
    let scaled = number.digits().checked_mul(unit);
    let divisor = 10u128.checked_pow(u32::from(number.scale()));
    scaled
        .zip(divisor)
        .and_then(|(scaled, divisor)| u64::try_from(scaled.div_ceil(divisor)).ok())
        .ok_or_else(|| Refusal::expected("a size below 16Ei"))
}

fn bytes_hint(suffix: &str) -> Option<String> {
    let letter = suffix.chars().next()?.to_ascii_uppercase();
    let binary = suffix.get(1..).is_some_and(|rest| rest.starts_with(['i', 'I']));
    match (letter, suffix.len()) {
        ('K' | 'M' | 'G' | 'T' | 'P' | 'E', 1..=3) => {
            let thousands = if letter == 'K' { 'k' } else { letter };
            let wanted = if binary {
                format!("{letter}i")
            } else {
                format!("{letter}i` or `{thousands}")
            };
            Some(format!("write `{wanted}`"))
        }
        _ => None,
    }
}

/// Thousandths of a CPU core.
pub(crate) fn milli_cpu(text: &str) -> Result<u64, Refusal> {
    let refusal = || Refusal::expected(CPU);
    let (number, suffix) = split_number(text);
    let shift = match suffix {
        "" => 3u8,
        "m" => 0,
        _ => return Err(refusal()),
    };
    let number: Decimal = number.parse().map_err(|_| refusal())?;
    let Some(shift) = shift.checked_sub(number.scale()) else {
        return Err(Refusal::expected(
            "CPU cores in thousandths at the finest, such as 0.125 or 125m",
        ));
    };
    let milli = number
        .digits()
        .checked_mul(10u128.pow(u32::from(shift)))
        .and_then(|milli| u64::try_from(milli).ok());
    match milli {
        Some(0) => Err(Refusal::expected("more than no CPU")),
        Some(milli) => Ok(milli),
        None => Err(Refusal::expected("fewer CPU cores than that")),
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.len()
        - text
            .trim_start_matches(|character: char| character.is_ascii_digit() || character == '.')
            .len();
    text.split_at(end)
}

/// A whole number of things.
pub(crate) fn count(text: &str, minimum: u32, maximum: u32) -> Result<u32, Refusal> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text
        .parse()
        .ok()
        .filter(|number| plain && (minimum..=maximum).contains(number));
    number.ok_or_else(|| Refusal::expected(format!("a whole number from {minimum} to {maximum}")))
}

/// A port.
pub(crate) fn port(text: &str) -> Result<u16, Refusal> {
    let number = count(text, 1, u32::from(u16::MAX)).map_err(|_| Refusal::expected("a port from 1 to 65535"))?;
    u16::try_from(number).map_err(|_| Refusal::expected("a port from 1 to 65535"))
}

/// First and last port of a range `8443-8445`, or of a single port.
pub(crate) fn port_range(text: &str) -> Result<(u16, u16), Refusal> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let refusal = || Refusal::expected("a range of ports such as 8443-8445");
    let first = port(first.trim()).map_err(|_| refusal())?;
    let last = port(last.trim()).map_err(|_| refusal())?;
    if first <= last {
        Ok((first, last))
    } else {
        Err(refusal().hint("the lower port comes first"))
    }
}

/// A DNS label.
pub(crate) fn label(text: &str) -> Result<(), Refusal> {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let bytes = text.as_bytes();
    if bytes.len() <= 63 && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|byte| allowed(*byte)) {
        return Ok(());
    }
    let corrected = text.to_ascii_lowercase().replace(['_', '.', ' '], "-");
    let refusal = Refusal::expected(LABEL);
    Err(if corrected != text && label(&corrected).is_ok() {
        refusal.hint(format!("write `{corrected}`"))
    } else {
        refusal
    })
}

/// A label for people: short, on one line.
pub(crate) fn caption(text: &str) -> Result<(), Refusal> {
    if !text.is_empty() && text.len() <= 253 && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Refusal::expected("a name of at most 253 bytes on one line"))
    }
}

/// Names of regions, GPU vendors and models: they are compared with governed lists, so their alphabet is small.
pub(crate) fn identifier(text: &str) -> Result<(), Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Refusal::expected(
            "a name of at most 64 letters, digits, `-`, `_` and `.`",
        ))
    }
}

/// Name of an environment variable, as Kubernetes takes them.
pub(crate) fn environment_name(text: &str) -> Result<(), Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let starts = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if starts && text.len() <= 253 && text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Refusal::expected(
            "NAME=value, the name of letters, digits, `_`, `-` and `.`",
        ))
    }
}

/// Text that is handed to a process: no NUL, which ends it for the kernel.
pub(crate) fn process_text(text: &str) -> Result<(), Refusal> {
    if text.contains('\0') {
        Err(Refusal::expected("text without NUL characters"))
    } else {
        Ok(())
    }
}

/// A host name or address with an optional port, as registries are named.
pub(crate) fn registry(text: &str) -> Result<(), Refusal> {
    let refusal = || Refusal::expected("a registry's host such as ghcr.io or registry.example:5000");
    if text.contains("://") {
        return Err(refusal().hint("leave out the scheme (https://)"));
    }
    let (host, registry_port) = match text.rsplit_once(':') {
        Some((host, registry_port)) => (host, Some(registry_port)),
        None => (text, None),
    };
    let port_is_valid = registry_port.is_none_or(|text| port(text).is_ok());
    if is_host_name(host) && port_is_valid {
        Ok(())
    } else {
        Err(refusal())
    }
}

/// A host name under which an HTTP port is served.
pub(crate) fn host_name(text: &str) -> Result<(), Refusal> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    if is_host_name(name) {
        Ok(())
    } else {
        Err(Refusal::expected("a host name such as www.example.org"))
    }
}

fn is_host_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| label(part).is_ok())
}

/// An image reference: `[host[:port]/]path[:tag][@digest]`.
pub(crate) fn image(text: &str) -> Result<(), Refusal> {
    let refusal = || Refusal::expected("an image such as nginx:1.27 or ghcr.io/org/app@sha256:...");
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let last_part = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[last_part..].split_once(':') {
        Some((end, tag)) => (&name[..last_part + end.len()], Some(tag)),
        None => (name, None),
    };
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) && !first_part_is_host(path) {
        return Err(refusal().hint("the name of an image is lower-case; only its tag may have capitals"));
    }
    let tag_is_valid = tag.is_none_or(|tag| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !tag.is_empty() && tag.len() <= 128 && !tag.starts_with(['.', '-']) && tag.bytes().all(allowed)
    });
    let digest_is_valid = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            algorithm == "sha256"
                && hex.len() == 64
                && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    });
    if text.len() <= 512 && image_path(path) && tag_is_valid && digest_is_valid {
        Ok(())
    } else {
        Err(refusal())
    }
}

fn first_part_is_host(path: &str) -> bool {
    path.split_once('/')
        .is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost")
}

fn image_path(path: &str) -> bool {
    let (host, parts) = match path.split_once('/') {
        Some((host, rest)) if first_part_is_host(path) => (Some(host.to_ascii_lowercase()), rest),
        _ => (None, path),
    };
    let part_is_valid = |part: &str| {
        let ends = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
        let bytes = part.as_bytes();
        ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|byte| allowed(*byte))
    };
    host.is_none_or(|host| registry(&host).is_ok()) && parts.split('/').all(part_is_valid)
}

/// Whether an image is pulled at every start when the file does not say: what a moving tag names may change.
pub(crate) fn has_moving_tag(image: &str) -> bool {
    let last_part = image.rfind('/').map_or(image, |slash| &image[slash + 1..]);
    if last_part.contains('@') {
        return false;
    }
    last_part.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// A place inside a container.
pub(crate) fn mount_path(text: &str) -> Result<(), Refusal> {
    let parts_are_plain = || {
        text[1..]
            .split('/')
            .all(|part| !matches!(part, "." | "..") && !part.contains(':'))
    };
    let plain = text.starts_with('/') && text.len() <= 4096 && !text.chars().any(char::is_control) && parts_are_plain();
    if plain && text.bytes().any(|byte| byte != b'/') {
        Ok(())
    } else {
        Err(Refusal::expected(
            "an absolute path such as /data, without `..` and `:`",
        ))
    }
}

/// Symbol of a payment token.
pub(crate) fn token(text: &str) -> Result<(), Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    if !text.is_empty() && text.len() <= 80 && text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Refusal::expected("a token's symbol such as SPON or uSPON"))
    }
}

/// Trust tiers by name, and the proper spelling where another one is in use.
pub(crate) fn tiers(text: &str) -> Result<(RangeInclusive<u8>, Option<&'static str>), Refusal> {
    let tiers = match text.to_ascii_lowercase().as_str() {
        // Published files say both.
        "secure" => return Ok((1..=3, Some("secured"))),
        "secured" => 1..=3,
        "secured-1" => 1..=1,
        "secured-2" => 2..=2,
        "secured-3" => 3..=3,
        "community" => 4..=7,
        "community-1" => 4..=4,
        "community-2" => 5..=5,
        "community-3" => 6..=6,
        "community-4" => 7..=7,
        _ => return Err(Refusal::default()),
    };
    Ok((tiers, None))
}
