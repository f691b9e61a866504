//! Why an order, an update or a manifest is not taken, as people read it: what the network has names for by its name, amounts as in a
//! deployment file. No I/O.

use std::collections::BTreeMap;
use std::fmt::Display;

use alloy_primitives::U256;
use avs::matching::Rejection;
use avs::words::{CPU_UNIT_MILLIS, MEMORY_UNIT_BYTES, STORAGE_UNIT_BYTES};
use daemon::causes::with_causes;
use manifest::{Catalog, FieldValue, decimal_text, duration_text, region_names};

use crate::bidding::Declined;
use crate::pricing::PriceError;
use crate::updates::Refusal;

const MIB_BYTES: u64 = 1 << 20;

/// Units of the resource word as CPUs.
pub fn cpu(units: u32) -> String {
    thousandths(u64::from(units) * CPU_UNIT_MILLIS)
}

/// Units of the resource word as memory.
pub fn memory(units: u32) -> String {
    mebibytes(u64::from(units) * MEMORY_UNIT_BYTES)
}

/// Units of the resource word as storage.
pub fn storage(units: u32) -> String {
    mebibytes(u64::from(units) * STORAGE_UNIT_BYTES)
}

/// Thousandths of a CPU as CPUs.
pub fn thousandths(milli_cpu: u64) -> String {
    format!("{} CPU", decimal_text(U256::from(milli_cpu), 3))
}

/// Bytes as whole MiB.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / MIB_BYTES)
}

/// What stands in a field of an order in `token`. What the catalog has no name for is told by its id.
pub fn field(value: &FieldValue, token: u8, catalog: &Catalog) -> String {
    match value {
        FieldValue::Token(id) => token_name(*id, catalog),
        FieldValue::MilliCpu(milli_cpu) => thousandths(*milli_cpu),
        FieldValue::Bytes(bytes) => mebibytes(*bytes),
        FieldValue::Seconds(seconds) => duration_text(u64::from(*seconds)),
        FieldValue::Rate(rate) => hourly(*rate, token, catalog),
        FieldValue::Region(id) => region_name(*id, catalog).unwrap_or_else(|| value.to_string()),
        FieldValue::Regions(bitmap) => {
            let names: BTreeMap<u8, String> = catalog.regions.iter().map(|(name, id)| (*id, name.clone())).collect();
            region_names(*bitmap, &names)
        }
        other => other.to_string(),
    }
}

/// Why an update is refused. What the catalog has no name for is told by its id.
pub fn refusal(refusal: &Refusal, catalog: &Catalog) -> String {
    match refusal {
        Refusal::Declined(reason) => declined(reason, catalog),
        other => with_causes(other),
    }
}

/// Why an order gets no bid. What the catalog has no name for is told by its id.
pub fn declined(declined: &Declined, catalog: &Catalog) -> String {
    match declined {
        Declined::NoPrices { token } => format!("no prices are configured for {}", token_name(*token, catalog)),
        Declined::Price(PriceError::GpuNotPriced { id }) => match catalog.gpus.get(id) {
            Some(gpu) => format!("the GPU {} has no price", gpu.model),
            None => with_causes(declined),
        },
        Declined::Refused(rejection) => rejected(rejection, catalog),
        other => with_causes(other),
    }
}

fn rejected(rejection: &Rejection, catalog: &Catalog) -> String {
    match rejection {
        Rejection::Token { token } => format!("the provider does not accept {}", token_name(*token, catalog)),
        Rejection::Region { region } => match region_name(*region, catalog) {
            Some(name) => format!("region {name} is not acceptable"),
            None => with_causes(rejection),
        },
        Rejection::Cpu { free, total, asked } => too_little("CPU", [free, total, asked].map(|units| cpu(*units))),
        Rejection::Memory { free, total, asked } => {
            too_little("memory", [free, total, asked].map(|units| memory(*units)))
        }
        Rejection::Storage { free, total, asked } => {
            too_little("storage", [free, total, asked].map(|units| storage(*units)))
        }
        other => with_causes(other),
    }
}

fn too_little(what: &str, [free, total, asked]: [impl Display; 3]) -> String {
    format!("too little {what} is free: {free} of {total}, and {asked} are asked for")
}

fn region_name(id: u8, catalog: &Catalog) -> Option<String> {
    let named = catalog.regions.iter().find(|(_, region)| **region == id);
    named.map(|(name, _)| name.clone())
}

fn token_name(id: u8, catalog: &Catalog) -> String {
    match catalog.tokens.iter().find(|(_, token)| token.id == id) {
        Some((symbol, _)) => symbol.clone(),
        None => format!("token {id}"),
    }
}

/// A rate in whole tokens an hour: it counts the token's units in ten hours.
fn hourly(rate: u128, token: u8, catalog: &Catalog) -> String {
    let listed = catalog.tokens.iter().find(|(_, listed)| listed.id == token);
    match listed.and_then(|(symbol, listed)| Some((symbol, listed.decimals.checked_add(1)?))) {
        Some((symbol, scale)) => format!("{} {symbol}/h", decimal_text(U256::from(rate), scale)),
        None => format!("{rate} units of token {token} in ten hours"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use manifest::{GpuModel, Token};

    use super::*;

    fn catalog() -> Catalog {
        let model = GpuModel {
            vendor: "nvidia".to_owned(),
            model: "a100".to_owned(),
            memory_bytes: 80 << 30,
            interface: None,
        };
        Catalog {
            tokens: BTreeMap::from([("uSPON".to_owned(), Token { id: 2, decimals: 6 })]),
            gpus: BTreeMap::from([(7, model)]),
            regions: BTreeMap::from([("us-east".to_owned(), 1), ("eu-west".to_owned(), 2)]),
            suppliers: BTreeMap::new(),
        }
    }

    #[test]
    fn reasons_name_what_has_a_name_and_tell_amounts_in_peoples_units() {
        let refused = |rejection| Declined::Refused(rejection);
        for (reason, told) in [
            (
                refused(Rejection::Region { region: 2 }),
                "region eu-west is not acceptable",
            ),
            (
                refused(Rejection::Token { token: 2 }),
                "the provider does not accept uSPON",
            ),
            (Declined::NoPrices { token: 2 }, "no prices are configured for uSPON"),
            (
                Declined::Price(PriceError::GpuNotPriced { id: 7 }),
                "the GPU a100 has no price",
            ),
            (
                refused(Rejection::Cpu {
                    free: 50,
                    total: 1_000,
                    asked: 201,
                }),
                "too little CPU is free: 0.5 CPU of 10 CPU, and 2.01 CPU are asked for",
            ),
            (
                refused(Rejection::Memory {
                    free: 0,
                    total: 64,
                    asked: 32,
                }),
                "too little memory is free: 0 MiB of 1024 MiB, and 512 MiB are asked for",
            ),
            (
                refused(Rejection::Storage {
                    free: 1,
                    total: 40,
                    asked: 4,
                }),
                "too little storage is free: 256 MiB of 10240 MiB, and 1024 MiB are asked for",
            ),
            // Added since the catalog was read.
            (refused(Rejection::Region { region: 9 }), "region 9 is not acceptable"),
            (Declined::NoPrices { token: 9 }, "no prices are configured for token 9"),
            (
                Declined::Price(PriceError::GpuNotPriced { id: 9 }),
                "GPU 9 has no price",
            ),
        ] {
            assert_eq!(declined(&reason, &catalog()), told);
            assert_eq!(refusal(&Refusal::Declined(reason), &catalog()), told);
        }
    }

    #[test]
    fn what_differs_is_told_in_the_units_of_a_deployment_file() {
        for (value, told) in [
            (FieldValue::MilliCpu(8_100), "8.1 CPU"),
            (FieldValue::Bytes(10 << 30), "10240 MiB"),
            (FieldValue::Seconds(9_000), "2h 30min"),
            // What differs by a second is told apart.
            (FieldValue::Seconds(93_601), "1d 2h 1s"),
            (FieldValue::Seconds(0), "0s"),
            (FieldValue::Rate(5_000_001), "0.5000001 uSPON/h"),
            (FieldValue::Token(2), "uSPON"),
            (FieldValue::Region(1), "us-east"),
            (FieldValue::Regions(U256::from(0b110)), "us-east, eu-west"),
            // Added since the catalog was read.
            (FieldValue::Token(9), "token 9"),
            (FieldValue::Region(9), "9"),
            (FieldValue::Count(3), "3"),
        ] {
            assert_eq!(field(&value, 2, &catalog()), told, "{value:?}");
        }
        let unlisted = field(&FieldValue::Rate(5), 9, &catalog());
        assert_eq!(unlisted, "5 units of token 9 in ten hours");
    }
}
