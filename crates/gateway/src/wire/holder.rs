//! Whose key a client says it has.

use alloy_primitives::Address;
use http::{HeaderMap, HeaderName};

/// Request header: the address that published the client's key, `0x` and 40 hex digits. Owners of a lease's account may leave
/// it out; whoever has a right to spend of that account is recognised by it.
pub const HOLDER: HeaderName = HeaderName::from_static("spheron-holder");

/// A [`HOLDER`] header that names no address, or one too many.
#[derive(Debug, thiserror::Error)]
#[error(
    "the header spheron-holder is not what it should be: once, 0x and 40 hex digits, the address whose key this is"
)]
pub struct MalformedHolder;

/// The address that a client says it is. `None` where it says nothing. It is a claim: only the chain knows whether that
/// address published the client's key.
pub fn claimed_holder(headers: &HeaderMap) -> Result<Option<Address>, MalformedHolder> {
    let mut named = headers.get_all(HOLDER).iter();
    let Some(value) = named.next() else {
        return Ok(None);
    };
    if named.next().is_some() {
        return Err(MalformedHolder);
    }
    let digits = value.as_bytes().strip_prefix(b"0x").ok_or(MalformedHolder)?;
    let mut address = [0; 20];
    hex::decode_to_slice(digits, &mut address).map_err(|_| MalformedHolder)?;
    Ok(Some(address.into()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HOLDER, HeaderValue::from_bytes(value).expect("a header's value"));
        }
        headers
    }

    #[test]
    fn an_address_is_taken_and_nothing_else() {
        let address = Address::repeat_byte(0xab);
        let (lower, checksummed) = (format!("{address:#x}"), address.to_checksum(None));
        assert_eq!(claimed_holder(&headers(&[])).expect("no claim"), None);
        for text in [&lower, &checksummed] {
            assert_eq!(claimed_holder(&headers(&[text.as_bytes()])).expect(text), Some(address));
        }
        let (padded, short, long) = (format!(" {lower}"), &lower[..41], format!("{lower}00"));
        for text in [
            "",
            "0x",
            "0xzz",
            &lower[2..],
            short,
            long.as_str(),
            padded.as_str(),
            &lower.replacen("0x", "0X", 1),
            &format!("{lower}, {lower}"),
            &"a".repeat(8000),
        ] {
            assert!(claimed_holder(&headers(&[text.as_bytes()])).is_err(), "{text}");
        }
        assert!(claimed_holder(&headers(&[&[0xff; 42]])).is_err(), "no text");
        assert!(
            claimed_holder(&headers(&[lower.as_bytes(), lower.as_bytes()])).is_err(),
            "twice"
        );
    }
}
