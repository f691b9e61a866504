//! Numbers from a seed, the same on every machine and in every release (SplitMix64).

/// An endless sequence of numbers.
#[derive(Debug, Clone)]
pub struct Source {
    state: u64,
}

impl Source {
    /// The sequence of one trace of a run.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut source = Self { state: seed };
        // Neighbouring seeds and numbers must not share sequences shifted by a step.
        source.state = source.number() ^ number.wrapping_mul(0xd134_2543_de82_ef95);
        source
    }

    /// 64 random bits.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u128, high: u128) -> u128 {
        let wide = (u128::from(self.number()) << 64 | u128::from(self.number())) >> 1;
        low + wide % (high - low + 1)
    }

    /// [`Self::between`] of narrower numbers.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        self.between(low.into(), high.into()) as u64
    }

    /// A number from `low` to `high` of any size: each length in bits is as likely as another.
    pub fn of_any_size(&mut self, low: u128, high: u128) -> u128 {
        let shift = self.number() % u64::from(128 - (high - low).leading_zeros() + 1);
        let most = (high - low) >> shift;
        low + self.between(0, most)
    }

    /// One of the values, which are some.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.number() as usize % values.len()]
    }

    /// True this often in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.number() % 100 < percent
    }
}
