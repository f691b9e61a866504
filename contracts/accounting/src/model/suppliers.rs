//! Who serves, and what of it is free.

use super::terms::Terms;
use crate::Who;

/// A pair of what is offered and what of it is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pool {
    pub total: u32,
    pub free: u32,
}

impl Pool {
    /// All of it free.
    pub fn all_free(total: u32) -> Self {
        Self { total, free: total }
    }

    fn raise(&mut self, total: u32) {
        if total > self.total {
            self.free += total - self.total;
            self.total = total;
        }
    }
}

/// GPUs of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GpuPool {
    pub id: u8,
    pub pool: Pool,
}

/// A provider or a fizz node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supplier {
    pub owner: Who,
    /// The provider that a fizz node is behind.
    pub gateway: Option<u32>,
    pub suspended: bool,
    pub rebated: bool,
    pub cpu: Pool,
    pub memory: Pool,
    pub storage: Pool,
    pub gpus: [GpuPool; 4],
    /// Where its last bid stood: block, order, fizz. They ascend.
    pub last_bid: (u64, u64, u32),
}

impl Supplier {
    /// Takes what the terms ask for, GPUs from that entry, if all of it is there.
    pub fn reserve(&mut self, terms: &Terms, entry: u8) -> bool {
        let gpu = self.gpus[usize::from(entry)];
        let gpus_fit = terms.gpus == 0 || (terms.gpu_ids.contains(&gpu.id) && gpu.pool.free >= u32::from(terms.gpus));
        let fits = !self.suspended
            && gpus_fit
            && self.cpu.free >= terms.cpu
            && self.memory.free >= terms.memory
            && self.storage.free >= terms.storage;
        if fits {
            self.cpu.free -= terms.cpu;
            self.memory.free -= terms.memory;
            self.storage.free -= terms.storage;
            self.gpus[usize::from(entry)].pool.free -= u32::from(terms.gpus);
        }
        fits
    }

    /// Gives back what [`Self::reserve`] took.
    pub fn release(&mut self, terms: &Terms, entry: u8) {
        self.cpu.free += terms.cpu;
        self.memory.free += terms.memory;
        self.storage.free += terms.storage;
        self.gpus[usize::from(entry)].pool.free += u32::from(terms.gpus);
    }

    /// Offers more; what is less than today's changes nothing here (decreases wait, and no step makes one).
    pub fn raise(&mut self, cpu: u32, memory: u32, storage: u32) {
        self.cpu.raise(cpu);
        self.memory.raise(memory);
        self.storage.raise(storage);
    }

    /// Whether a lease lives: every order asks for CPU.
    pub fn has_lease(&self) -> bool {
        self.cpu.free < self.cpu.total
    }
}
