use alloy_primitives::U256;

use super::{
    GPU_ID_MAXIMUM, WordError,
    bits::{Packer, check_unused_above, take},
};

const RESOURCES: &str = "resource word";
const CAPACITY: &str = "capacity word";

/// GPU entries of a capacity word.
pub const GPU_ENTRIES: usize = 4;

/// A set of GPU ids, 1 to 159: the models an order accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct GpuSet([u64; 3]);

impl GpuSet {
    /// # Errors
    /// When an id is 0 or above 159.
    pub fn from_ids(ids: impl IntoIterator<Item = u8>) -> Result<Self, WordError> {
        let mut set = Self::default();
        for id in ids {
            set.insert(id)?;
        }
        Ok(set)
    }

    /// # Errors
    /// When the id is 0 or above 159.
    pub fn insert(&mut self, id: u8) -> Result<(), WordError> {
        if id == 0 || id > GPU_ID_MAXIMUM {
            return Err(WordError::OutOfRange {
                word: RESOURCES,
                field: "GPU id",
                value: id.into(),
                minimum: 1,
                maximum: GPU_ID_MAXIMUM.into(),
            });
        }
        self.0[usize::from(id) / 64] |= 1 << (id % 64);
        Ok(())
    }

    /// Whether the model is in the set; ids that do not exist are in none.
    #[inline]
    pub fn contains(&self, id: u8) -> bool {
        self.0
            .get(usize::from(id) / 64)
            .is_some_and(|bits| bits >> (id % 64) & 1 == 1)
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; 3]
    }

    /// Number of models in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// The ids, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (1..=GPU_ID_MAXIMUM).filter(|id| self.contains(*id))
    }
}

/// What an order asks for, in units on chain. Requests round up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Resources {
    /// Units of 256 MiB; may be zero.
    pub storage: u32,
    /// Units of 16 MiB; at least 1.
    pub memory: u32,
    /// Units of 10 milli-CPUs; at least 1.
    pub cpu: u32,
    /// Whole GPUs; zero exactly when `gpus` is empty.
    pub gpu_count: u16,
    /// Acceptable models.
    pub gpus: GpuSet,
}

impl Resources {
    /// # Errors
    /// When a field does not fit its width, CPU or memory is zero, or GPUs and their models disagree.
    pub fn pack(&self) -> Result<U256, WordError> {
        self.check()?;
        let [low, middle, high] = self.gpus.0;
        Ok(Packer::new(RESOURCES)
            .put("storage", 0, 22, self.storage)?
            .put("memory", 22, 20, self.memory)?
            .put("cpu", 42, 20, self.cpu)?
            .put("GPU count", 62, 12, self.gpu_count)?
            .put("GPU ids", 96, 64, low)?
            .put("GPU ids", 160, 64, middle)?
            .put("GPU ids", 224, 32, high)?
            .finish())
    }

    /// # Errors
    /// When bits outside the fields are set, CPU or memory is zero, or GPUs and their models disagree.
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        if take(&word, 74, 22) != 0 || take(&word, 96, 1) != 0 {
            return Err(WordError::ReservedBits {
                word: RESOURCES,
                value: word,
            });
        }
        let resources = Self {
            storage: take(&word, 0, 22) as u32,
            memory: take(&word, 22, 20) as u32,
            cpu: take(&word, 42, 20) as u32,
            gpu_count: take(&word, 62, 12) as u16,
            gpus: GpuSet([take(&word, 96, 64), take(&word, 160, 64), take(&word, 224, 32)]),
        };
        resources.check()?;
        Ok(resources)
    }

    fn check(&self) -> Result<(), WordError> {
        for (field, value) in [("memory", self.memory), ("cpu", self.cpu)] {
            if value == 0 {
                return Err(WordError::OutOfRange {
                    word: RESOURCES,
                    field,
                    value: 0,
                    minimum: 1,
                    maximum: super::CPU_MEMORY_MAXIMUM.into(),
                });
            }
        }
        if (self.gpu_count == 0) != self.gpus.is_empty() {
            return Err(WordError::GpuCountWithoutModels {
                count: self.gpu_count,
                models: self.gpus.len(),
            });
        }
        Ok(())
    }
}

/// One GPU model of a supplier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct GpuEntry {
    /// Governed id of the model and its memory, 1 to 159; 0 for an unused entry.
    pub id: u8,
    pub free: u16,
    pub total: u16,
}

/// What a supplier has, in units on chain. Offers round down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Capacity {
    /// Units of 256 MiB.
    pub storage_free: u32,
    pub storage_total: u32,
    /// Units of 16 MiB.
    pub memory_free: u32,
    pub memory_total: u32,
    /// Units of 10 milli-CPUs.
    pub cpu_free: u32,
    pub cpu_total: u32,
    pub gpus: [GpuEntry; GPU_ENTRIES],
    /// Whether the supplier takes leases.
    pub active: bool,
}

impl Capacity {
    /// # Errors
    /// When a field does not fit its width, or more is free than there is.
    pub fn pack(&self) -> Result<U256, WordError> {
        self.check()?;
        let mut packer = Packer::new(CAPACITY);
        packer
            .put("free storage", 0, 22, self.storage_free)?
            .put("total storage", 22, 22, self.storage_total)?
            .put("free memory", 44, 20, self.memory_free)?
            .put("total memory", 64, 20, self.memory_total)?
            .put("free cpu", 84, 20, self.cpu_free)?
            .put("total cpu", 104, 20, self.cpu_total)?
            .put("active", 252, 1, self.active)?;
        for (index, entry) in self.gpus.iter().enumerate() {
            let offset = 124 + 32 * index;
            packer
                .put("free GPUs", offset, 12, entry.free)?
                .put("total GPUs", offset + 12, 12, entry.total)?
                .put("GPU id", offset + 24, 8, entry.id)?;
        }
        Ok(packer.finish())
    }

    /// # Errors
    /// When bits outside the fields are set, or more is free than there is.
    #[inline]
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        check_unused_above(CAPACITY, &word, 253)?;
        let gpu = |index: usize| GpuEntry {
            free: take(&word, 124 + 32 * index, 12) as u16,
            total: take(&word, 136 + 32 * index, 12) as u16,
            id: take(&word, 148 + 32 * index, 8) as u8,
        };
        let capacity = Self {
            storage_free: take(&word, 0, 22) as u32,
            storage_total: take(&word, 22, 22) as u32,
            memory_free: take(&word, 44, 20) as u32,
            memory_total: take(&word, 64, 20) as u32,
            cpu_free: take(&word, 84, 20) as u32,
            cpu_total: take(&word, 104, 20) as u32,
            gpus: [gpu(0), gpu(1), gpu(2), gpu(3)],
            active: take(&word, 252, 1) == 1,
        };
        capacity.check()?;
        Ok(capacity)
    }

    /// The GPU entry that serves `count` GPUs of the acceptable models: the first with enough free. `None` when there is
    /// none; `Some(0)` when no GPU is asked for.
    #[inline]
    pub fn gpu_entry_for(&self, count: u16, acceptable: &GpuSet) -> Option<u8> {
        if count == 0 {
            return Some(0);
        }
        self.gpus
            .iter()
            .position(|entry| entry.free >= count && acceptable.contains(entry.id))
            .map(|index| index as u8)
    }

    #[inline]
    fn check(&self) -> Result<(), WordError> {
        let mut parts = [
            ("storage", self.storage_free, self.storage_total),
            ("memory", self.memory_free, self.memory_total),
            ("cpu", self.cpu_free, self.cpu_total),
        ]
        .into_iter()
        .chain(
            self.gpus
                .iter()
                .map(|gpu| ("a GPU entry", u32::from(gpu.free), u32::from(gpu.total))),
        );
        match parts.find(|(_, free, total)| free > total) {
            Some((field, free, total)) => Err(WordError::FreeAboveTotal {
                word: CAPACITY,
                field,
                free,
                total,
            }),
            None => Ok(()),
        }
    }
}
