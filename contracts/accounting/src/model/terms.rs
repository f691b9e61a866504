//! What a user asks for. Two terms are one if every part is.

/// Units: 10 milli-CPU, 16 MiB of memory, 256 MiB of storage, token units per 36 000 seconds, seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub cpu: u32,
    pub memory: u32,
    pub storage: u32,
    pub gpus: u16,
    /// Acceptable models, ascending.
    pub gpu_ids: Vec<u8>,
    pub params_version: u16,
    /// Which manifest; zero is none.
    pub manifest: u64,
    pub maximum_rate: u128,
    pub duration: u32,
}

/// Rates have 84 bits.
pub const MAXIMUM_RATE: u128 = (1 << 84) - 1;
/// Durations have 29 bits.
pub const MAXIMUM_DURATION: u32 = (1 << 29) - 1;

impl Terms {
    /// Whether an order may be made of it.
    pub fn are_valid(&self, params_version: u16) -> bool {
        self.cpu != 0
            && self.memory != 0
            && (self.gpus == 0) == self.gpu_ids.is_empty()
            && !self.gpu_ids.contains(&0)
            && self.params_version == params_version
            && self.manifest != 0
            && (1..=MAXIMUM_RATE).contains(&self.maximum_rate)
            && (1..=MAXIMUM_DURATION).contains(&self.duration)
    }
}
