use alloy_primitives::U256;

use super::{
    GPU_ID_MAXIMUM, WordError,
    bits::{Field, Packer, check_unused_above},
};

const RESOURCES: &str = "resource word";
const STORAGE: Field = Field::new("storage", 0, 22);
const MEMORY: Field = Field::new("memory", 22, 20);
const CPU: Field = Field::new("cpu", 42, 20);
const GPU_COUNT: Field = Field::new("GPU count", 62, 12);
const UNUSED: Field = Field::new("unused", 74, 22);
const GPU_ID_ZERO: Field = Field::new("GPU id 0", 96, 1);
const GPU_IDS: [Field; 3] = [
    Field::new("GPU ids", 96, 64),
    Field::new("GPU ids", 160, 64),
    Field::new("GPU ids", 224, 32),
];

const CAPACITY: &str = "capacity word";
pub(super) const STORAGE_FREE: Field = Field::new("free storage", 0, 22);
pub(super) const STORAGE_TOTAL: Field = Field::new("total storage", 22, 22);
pub(super) const MEMORY_FREE: Field = Field::new("free memory", 44, 20);
pub(super) const MEMORY_TOTAL: Field = Field::new("total memory", 64, 20);
pub(super) const CPU_FREE: Field = Field::new("free cpu", 84, 20);
pub(super) const CPU_TOTAL: Field = Field::new("total cpu", 104, 20);
pub(super) const ACTIVE: Field = Field::new("active", 252, 1);
const GPU_FREE: Field = Field::new("free GPUs", GPU_ENTRIES_OFFSET, 12);
const GPU_TOTAL: Field = Field::new("total GPUs", GPU_ENTRIES_OFFSET + 12, 12);
const GPU_ID: Field = Field::new("GPU id", GPU_ENTRIES_OFFSET + 24, 8);
/// First bit of the first GPU entry.
const GPU_ENTRIES_OFFSET: usize = 124;
/// Bits from one GPU entry to the next.
const GPU_ENTRY_BITS: usize = 32;

/// GPU entries of a capacity word.
pub const GPU_ENTRIES: usize = 4;

/// A set of GPU ids, 1 to 159: the models an order accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct GpuSet(
    /// A part more than the word has, so that every id of 8 bits has its bit.
    [u64; 4],
);

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
    #[inline(always)]
    pub fn contains(&self, id: u8) -> bool {
        self.0[usize::from(id >> 6)] >> (id & 63) & 1 == 1
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
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
        let [low, middle, high, _] = self.gpus.0;
        Ok(Packer::new(RESOURCES)
            .put(STORAGE, self.storage)?
            .put(MEMORY, self.memory)?
            .put(CPU, self.cpu)?
            .put(GPU_COUNT, self.gpu_count)?
            .put(GPU_IDS[0], low)?
            .put(GPU_IDS[1], middle)?
            .put(GPU_IDS[2], high)?
            .finish())
    }

    /// # Errors
    /// When bits outside the fields are set, CPU or memory is zero, or GPUs and their models disagree.
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        if UNUSED.of(&word) != 0 || GPU_ID_ZERO.of(&word) != 0 {
            return Err(WordError::ReservedBits {
                word: RESOURCES,
                value: word,
            });
        }
        let resources = Self {
            storage: STORAGE.of(&word) as u32,
            memory: MEMORY.of(&word) as u32,
            cpu: CPU.of(&word) as u32,
            gpu_count: GPU_COUNT.of(&word) as u16,
            gpus: {
                let [low, middle, high] = GPU_IDS.map(|field| field.of(&word));
                GpuSet([low, middle, high, 0])
            },
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
            .put(STORAGE_FREE, self.storage_free)?
            .put(STORAGE_TOTAL, self.storage_total)?
            .put(MEMORY_FREE, self.memory_free)?
            .put(MEMORY_TOTAL, self.memory_total)?
            .put(CPU_FREE, self.cpu_free)?
            .put(CPU_TOTAL, self.cpu_total)?
            .put(ACTIVE, self.active)?;
        for (index, entry) in self.gpus.iter().enumerate() {
            let by = GPU_ENTRY_BITS * index;
            packer
                .put(GPU_FREE.moved(by), entry.free)?
                .put(GPU_TOTAL.moved(by), entry.total)?
                .put(GPU_ID.moved(by), entry.id)?;
        }
        Ok(packer.finish())
    }

    /// # Errors
    /// When bits outside the fields are set, or more is free than there is.
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        Self::check_bits(&word)?;
        let capacity = Self {
            storage_free: STORAGE_FREE.of(&word) as u32,
            storage_total: STORAGE_TOTAL.of(&word) as u32,
            memory_free: MEMORY_FREE.of(&word) as u32,
            memory_total: MEMORY_TOTAL.of(&word) as u32,
            cpu_free: CPU_FREE.of(&word) as u32,
            cpu_total: CPU_TOTAL.of(&word) as u32,
            gpus: std::array::from_fn(|index| GpuEntry::of(&word, index)),
            active: ACTIVE.of(&word) == 1,
        };
        capacity.check()?;
        Ok(capacity)
    }

    #[inline(always)]
    pub(super) fn check_bits(word: &U256) -> Result<(), WordError> {
        check_unused_above(CAPACITY, word, 253)
    }

    /// The active flag is the highest field.
    #[inline(always)]
    pub(super) fn is_active_without_stray_bits(word: &U256) -> bool {
        word.as_limbs()[3] >> 60 == 1
    }

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
                .map(|gpu| ("a GPU entry", gpu.free.into(), gpu.total.into())),
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

impl GpuEntry {
    /// Entry of a capacity word; `index` is below [`GPU_ENTRIES`].
    #[inline(always)]
    pub(super) fn of(word: &U256, index: usize) -> Self {
        let entry = (gpu_entries(word) >> (GPU_ENTRY_BITS * index)) as u32;
        Self {
            free: (entry & 0xfff) as u16,
            total: (entry >> 12 & 0xfff) as u16,
            id: (entry >> 24) as u8,
        }
    }
}

/// The four GPU entries, 32 bits each.
#[inline(always)]
fn gpu_entries(word: &U256) -> u128 {
    let limbs = word.as_limbs();
    let (limb, shift) = (GPU_ENTRIES_OFFSET / 64, GPU_ENTRIES_OFFSET % 64);
    u128::from(limbs[limb] >> shift)
        | u128::from(limbs[limb + 1]) << (64 - shift)
        | u128::from(limbs[limb + 2]) << (128 - shift)
}

/// The first GPU entry of a capacity word with an acceptable model, enough free, and no more free than there are; and its
/// index.
#[inline(always)]
pub(super) fn gpu_entry_for(word: &U256, count: u16, acceptable: &GpuSet) -> Option<(u8, GpuEntry)> {
    for index in 0..GPU_ENTRIES {
        let entry = GpuEntry::of(word, index);
        if acceptable.contains(entry.id) && entry.free >= count && entry.free <= entry.total {
            return Some((index as u8, entry));
        }
    }
    None
}
