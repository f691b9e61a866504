//! What holds for every input: no panic, bounded answers, one text and one hash for one manifest.

use alloy_primitives::B256;
use manifest::{Decimal, SaltedManifest, canonical_json, content_hash, parse};
use proptest::collection::vec;
use proptest::prelude::*;

const FILE: &str = include_str!("../../../examples/two-services.icl.yaml");

/// Reads it, and checks what must hold whether it passes or not.
fn read(bytes: &[u8]) {
    match parse("any.yaml", bytes) {
        Ok(deployment) => {
            let salted = SaltedManifest {
                salt: B256::ZERO,
                manifest: deployment.manifest,
            };
            let again = SaltedManifest::decode(&salted.encode()).expect("what a file produces is valid");
            assert_eq!(again, salted);
        }
        Err(report) => {
            assert!(!report.problems.is_empty());
            for problem in &report.problems {
                assert!(
                    problem.position.line >= 1 && problem.position.column >= 1,
                    "{problem:?}"
                );
            }
            assert!(!report.to_string().is_empty());
        }
    }
}

/// One change of a valid file, at places given as fractions of 2^16.
#[derive(Debug, Clone)]
enum Change {
    Cut(u16, u16),
    Insert(u16, String),
    Repeat(u16, u16),
    Flip(u16, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let fragment = prop_oneof![
        "[\\[\\]{}:,&*!|>'\"%@` \\-#\n\t?~]{1,6}",
        "[a-z0-9]{1,8}: ?",
        Just("&a ".to_owned()),
        Just("*a ".to_owned()),
        Just("<<: *a\n".to_owned()),
        Just("\u{0}\u{fffe}\u{1F600}".to_owned()),
        "\\PC{1,4}",
    ];
    prop_oneof![
        (any::<u16>(), any::<u16>()).prop_map(|(from, length)| Change::Cut(from, length % 64)),
        (any::<u16>(), fragment).prop_map(|(at, text)| Change::Insert(at, text)),
        (any::<u16>(), any::<u16>()).prop_map(|(from, length)| Change::Repeat(from, length % 256)),
        (any::<u16>(), any::<u8>()).prop_map(|(at, mask)| Change::Flip(at, mask)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let place = |fraction: u16, length: usize| usize::from(fraction) * length / usize::from(u16::MAX);
    let length = bytes.len();
    match change {
        Change::Cut(from, count) => {
            let from = place(*from, length);
            bytes.drain(from..(from + usize::from(*count)).min(length));
        }
        Change::Insert(at, text) => {
            let at = place(*at, length);
            bytes.splice(at..at, text.bytes());
        }
        Change::Repeat(from, count) => {
            let from = place(*from, length);
            let copy = bytes[from..(from + usize::from(*count)).min(length)].to_vec();
            bytes.splice(from..from, copy);
        }
        Change::Flip(at, mask) => {
            if let Some(byte) = bytes.get_mut(place(*at, length)) {
                *byte ^= mask;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..2_000)) {
        read(&bytes);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[ \\-a-c:\n\t{}\\[\\],&*!|>'\"#%?~é0-2]{0,400}") {
        read(text.as_bytes());
    }

    #[test]
    fn damaged_files_never_panic(changes in vec(change(), 1..8)) {
        let mut bytes = FILE.as_bytes().to_vec();
        for change in &changes {
            apply(&mut bytes, change);
        }
        read(&bytes);
    }

    #[test]
    fn every_text_value_survives_its_way_to_the_provider(value in "[^\u{0}]{0,200}", argument in "\\PC{0,50}") {
        let mut manifest = parse("file.yaml", FILE.as_bytes()).expect("a valid file").manifest;
        let web = manifest.services.values_mut().next().expect("a service");
        web.env = vec![manifest::EnvironmentVariable { name: "A".to_owned(), value: manifest::Secret::new(value.as_str()) }];
        web.args = vec![argument];
        let salted = SaltedManifest { salt: B256::repeat_byte(1), manifest };
        prop_assert_eq!(&SaltedManifest::decode(&salted.encode()).expect("valid"), &salted);
        let json = canonical_json(&salted.manifest);
        prop_assert_eq!(canonical_json(&serde_json::from_slice::<serde_json::Value>(&json).expect("JSON")), json);
        prop_assert_eq!(content_hash(&salted.manifest), content_hash(&salted.manifest.clone()));
    }

    #[test]
    fn another_salt_or_value_is_another_hash(left in any::<[u8; 32]>(), right in any::<[u8; 32]>(), name in "[a-z]{1,9}") {
        prop_assume!(left != right);
        let manifest = parse("file.yaml", FILE.as_bytes()).expect("a valid file").manifest;
        let hash = |salt: [u8; 32], manifest: &manifest::Manifest| {
            SaltedManifest { salt: salt.into(), manifest: manifest.clone() }.hash()
        };
        prop_assert_ne!(hash(left, &manifest), hash(right, &manifest));
        let mut renamed = manifest.clone();
        renamed.requirements.placement.label = format!("{name}-other");
        prop_assert_ne!(hash(left, &manifest), hash(left, &renamed));
    }

    #[test]
    fn decimals_are_their_text(digits in any::<u128>(), scale in 0u8..=36) {
        let decimal = Decimal::new(digits, scale).expect("within the limits");
        prop_assert_eq!(decimal.to_string().parse::<Decimal>(), Ok(decimal));
    }
}
