//! What a lease costs: prices per resource and hour, as decimal text in the configuration, become the chain's whole units
//! per 36 000 seconds. Exact until the end, then rounded up: a provider is never paid less than it asked for.

use alloy_primitives::Uint;
use alloy_primitives::aliases::U512;
use avs::words::{
    CPU_UNIT_MILLIS, MEMORY_UNIT_BYTES, RATE_MAXIMUM, RATE_SECONDS, Resources, STORAGE_UNIT_BYTES, WordError,
};
use manifest::{Decimal, MAXIMUM_SCALE};

/// Hours that a rate covers.
const RATE_HOURS: u64 = RATE_SECONDS / 3_600;
/// One core, one GiB, as the parts that the chain's units are counted in.
const CORE_MILLIS: u64 = 1_000;
const GIB_BYTES: u64 = 1 << 30;
/// Units of a resource per core or GiB: what prices per core and GiB are divided by.
const CPU_UNITS: u64 = CORE_MILLIS / CPU_UNIT_MILLIS;
const MEMORY_UNITS: u64 = GIB_BYTES / MEMORY_UNIT_BYTES;
const STORAGE_UNITS: u64 = GIB_BYTES / STORAGE_UNIT_BYTES;
/// A common multiple of the three.
const COMMON: u64 = 1_600;

/// Prices in one token, each for an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    /// The token's symbol.
    pub symbol: String,
    /// Decimals of the token's smallest unit.
    pub decimals: u8,
    /// Of one core.
    pub cpu: Decimal,
    /// Of one GiB of memory.
    pub memory_gib: Decimal,
    /// Of one GiB of storage.
    pub storage_gib: Decimal,
    /// Of one GPU, by its governed id. Models without a price are not sold.
    pub gpus: std::collections::BTreeMap<u8, Decimal>,
    /// The least that any lease costs.
    pub minimum: Decimal,
}

/// What a provider asks is more than what is offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this provider asks {asked} {symbol}/h")]
pub struct TooDear {
    /// Whole tokens an hour.
    pub asked: String,
    /// The most that is paid, in whole tokens an hour.
    pub offered: String,
    /// The token's symbol.
    pub symbol: String,
}

/// Why something has no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// The model is not in the price list.
    #[error("GPU {id} has no price")]
    GpuNotPriced {
        /// Its governed id.
        id: u8,
    },
    /// More than 84 bits.
    #[error("the price does not fit the market's rates")]
    TooLarge,
}

impl Prices {
    /// The rate of these resources, in token units per 36 000 seconds; `gpu` is the model that would serve. Never zero.
    ///
    /// # Errors
    /// When the model has no price, or the rate does not fit.
    pub fn rate(&self, resources: &Resources, gpu: Option<u8>) -> Result<u128, PriceError> {
        let mut parts = vec![
            (self.cpu, u64::from(resources.cpu) * (COMMON / CPU_UNITS)),
            (self.memory_gib, u64::from(resources.memory) * (COMMON / MEMORY_UNITS)),
            (
                self.storage_gib,
                u64::from(resources.storage) * (COMMON / STORAGE_UNITS),
            ),
        ];
        if resources.gpu_count > 0 {
            let id = gpu.unwrap_or_default();
            let price = *self.gpus.get(&id).ok_or(PriceError::GpuNotPriced { id })?;
            parts.push((price, u64::from(resources.gpu_count) * COMMON));
        }
        let sum = parts.into_iter().fold(U512::ZERO, |sum, (price, amount)| {
            sum + scaled(price) * U512::from(amount)
        });
        let least = scaled(self.minimum) * U512::from(COMMON);
        self.round_up(sum.max(least))
    }

    /// The rate of a price for the whole lease and hour.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn rate_of_hour(&self, price: Decimal) -> Result<u128, PriceError> {
        self.round_up(scaled(price) * U512::from(COMMON))
    }

    /// A rate in whole tokens an hour, exactly.
    pub fn per_hour(&self, rate: u128) -> String {
        // A rate covers ten hours: that is one digit more after the point.
        match Decimal::new(rate, self.decimals.saturating_add(1)) {
            Ok(price) => price.to_string(),
            Err(_) => format!("{rate} / 10^{}", u16::from(self.decimals) + 1),
        }
    }

    /// Why this rate cannot be asked where no more than that is offered.
    pub fn too_dear(&self, rate: u128, maximum: u128) -> TooDear {
        TooDear {
            asked: self.per_hour(rate),
            offered: self.per_hour(maximum),
            symbol: self.symbol.clone(),
        }
    }

    /// From tokens an hour, in parts of `1 / (COMMON * 10^MAXIMUM_SCALE)`.
    fn round_up(&self, sum: U512) -> Result<u128, PriceError> {
        let units = sum * U512::from(RATE_HOURS) * power_of_ten(self.decimals);
        let parts = U512::from(COMMON) * power_of_ten(MAXIMUM_SCALE);
        let rate = units.div_ceil(parts).max(U512::from(1));
        u128::try_from(rate)
            .ok()
            .filter(|rate| *rate <= RATE_MAXIMUM)
            .ok_or(PriceError::TooLarge)
    }
}

fn scaled(price: Decimal) -> U512 {
    U512::from(price.digits()) * power_of_ten(MAXIMUM_SCALE - price.scale())
}

fn power_of_ten(exponent: u8) -> U512 {
    Uint::from(10).pow(U512::from(exponent))
}

/// Amounts as people write them (`500m`, `2`, `8Gi`), rounded down to the chain's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Thousandths of a core.
    pub milli_cpu: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes.
    pub storage_bytes: u64,
}

impl Offered {
    /// The capacity word that offers this.
    ///
    /// # Errors
    /// When an amount has more bits than the word has for it.
    pub fn capacity(&self) -> Result<avs::words::Capacity, WordError> {
        let units = |amount: u64, unit: u64| u32::try_from(amount / unit).unwrap_or(u32::MAX);
        let capacity = avs::words::Capacity {
            cpu_total: units(self.milli_cpu, CPU_UNIT_MILLIS),
            memory_total: units(self.memory_bytes, MEMORY_UNIT_BYTES),
            storage_total: units(self.storage_bytes, STORAGE_UNIT_BYTES),
            cpu_free: units(self.milli_cpu, CPU_UNIT_MILLIS),
            memory_free: units(self.memory_bytes, MEMORY_UNIT_BYTES),
            storage_free: units(self.storage_bytes, STORAGE_UNIT_BYTES),
            active: true,
            ..avs::words::Capacity::default()
        };
        capacity.pack()?;
        Ok(capacity)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use avs::words::GpuSet;
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().expect("a decimal")
    }

    fn prices(decimals: u8) -> Prices {
        Prices {
            symbol: "uSPON".to_owned(),
            decimals,
            cpu: decimal("0.02"),
            memory_gib: decimal("0.01"),
            storage_gib: decimal("0.0001"),
            gpus: BTreeMap::from([(7, decimal("2.5"))]),
            minimum: decimal("0"),
        }
    }

    /// Half a core, 256 MiB, 1 GiB.
    fn small() -> Resources {
        Resources {
            cpu: 50,
            memory: 16,
            storage: 4,
            ..Resources::default()
        }
    }

    #[test]
    fn an_hour_of_everything_adds_up() {
        // 0.5 * 0.02 + 0.25 * 0.01 + 1 * 0.0001 = 0.0126 tokens an hour, 0.126 in ten hours.
        assert_eq!(prices(6).rate(&small(), None), Ok(126_000));
        assert_eq!(prices(18).rate(&small(), None), Ok(126_000_000_000_000_000));
        // Less than a unit is a unit.
        assert_eq!(prices(0).rate(&small(), None), Ok(1));
    }

    #[test]
    fn a_minimum_counts_when_it_is_more_and_a_gpu_needs_a_price() {
        let mut list = prices(6);
        list.minimum = decimal("1");
        assert_eq!(list.rate(&small(), None), Ok(10_000_000));
        let with_gpu = Resources {
            gpu_count: 2,
            gpus: GpuSet::from_ids([7, 8]).expect("ids"),
            ..small()
        };
        assert_eq!(prices(6).rate(&with_gpu, Some(7)), Ok(50_126_000));
        assert_eq!(
            prices(6).rate(&with_gpu, Some(8)),
            Err(PriceError::GpuNotPriced { id: 8 })
        );
        list.minimum = decimal("99999999999999999999999999");
        assert_eq!(list.rate(&small(), None), Err(PriceError::TooLarge));
    }

    #[test]
    fn a_rate_is_told_in_whole_tokens_an_hour() {
        assert_eq!(prices(6).per_hour(20_000), "0.002");
        assert_eq!(prices(6).per_hour(200_000), "0.02");
        assert_eq!(prices(6).per_hour(10_000_000), "1");
        assert_eq!(prices(6).per_hour(1), "0.0000001");
        assert_eq!(prices(18).per_hour(126_000_000_000_000_000), "0.0126");
        assert_eq!(prices(0).per_hour(25), "2.5");
    }

    proptest! {
        /// Rounded up by less than one unit, whatever the prices.
        #[test]
        fn a_rate_is_the_exact_price_rounded_up(
            cpu in 1u32..1 << 20, memory in 1u32..1 << 20, storage in 0u32..1 << 22,
            price in 0u128..1 << 60, scale in 0u8..=18, decimals in 0u8..=18,
        ) {
            let price = Decimal::new(price, scale).expect("a decimal");
            let zero = decimal("0");
            let list = Prices {
                symbol: String::new(), decimals, cpu: price, memory_gib: price, storage_gib: price, gpus: BTreeMap::new(), minimum: zero,
            };
            let resources = Resources { cpu, memory, storage, ..Resources::default() };
            // In 1600ths: cpu units are 16, memory 25, storage 400.
            let amount = U512::from(cpu) * U512::from(16) + U512::from(memory) * U512::from(25) + U512::from(storage) * U512::from(400);
            let exact = U512::from(price.digits()) * amount * U512::from(10) * power_of_ten(decimals);
            let parts = U512::from(1600) * power_of_ten(price.scale());
            match list.rate(&resources, None) {
                Ok(rate) => {
                    let rate = U512::from(rate);
                    prop_assert!(rate * parts >= exact);
                    prop_assert!(rate == U512::from(1) || (rate - U512::from(1)) * parts < exact);
                }
                Err(error) => {
                    prop_assert_eq!(error, PriceError::TooLarge);
                    prop_assert!(exact > parts * U512::from(RATE_MAXIMUM));
                }
            }
        }
    }
}
