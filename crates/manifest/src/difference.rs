//! What differs between the order a manifest stands for and the order on chain, in words.

use std::fmt;

use avs::terms::Terms;
use avs::words::{
    CPU_UNIT_MILLIS, GPU_ID_MAXIMUM, GpuSet, MEMORY_UNIT_BYTES, Mode, Requirements, Resources, STORAGE_UNIT_BYTES,
};
use serde::Serialize;

use crate::order::OrderRequest;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    /// Name of the field.
    pub field: &'static str,
    /// What the manifest stands for.
    pub derived: String,
    /// What was ordered.
    pub on_chain: String,
}

impl fmt::Display for FieldDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: the manifest asks for {}, the order is for {}",
            self.field, self.derived, self.on_chain
        )
    }
}

/// Every field in which the order a manifest stands for differs from the one on chain; empty when they are the same.
pub fn differences(derived: &OrderRequest, on_chain: &OrderRequest) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    note(&mut found, "token id", derived.token, on_chain.token);
    match (derived.terms.unpack(), on_chain.terms.unpack()) {
        (Ok(left), Ok(right)) => {
            resources(&mut found, &left.0, &right.0);
            requirements(&mut found, &left.1, &right.1);
        }
        // Terms that do not unpack are on no chain of ours; their words are all that can be said of them.
        _ => {
            note(
                &mut found,
                "resource word",
                derived.terms.resources,
                on_chain.terms.resources,
            );
            note(
                &mut found,
                "requirement word",
                derived.terms.requirements,
                on_chain.terms.requirements,
            );
        }
    }
    rest(&mut found, &derived.terms, &on_chain.terms);
    found
}

fn note<T: PartialEq + fmt::Display>(found: &mut Vec<FieldDifference>, field: &'static str, derived: T, on_chain: T) {
    if derived != on_chain {
        found.push(FieldDifference {
            field,
            derived: derived.to_string(),
            on_chain: on_chain.to_string(),
        });
    }
}

fn resources(found: &mut Vec<FieldDifference>, derived: &Resources, on_chain: &Resources) {
    let amount = |units: u32, size: u64, unit: &str| format!("{} {unit}", u64::from(units) * size);
    let cpu = |resources: &Resources| amount(resources.cpu, CPU_UNIT_MILLIS, "milli-CPU");
    let memory = |resources: &Resources| amount(resources.memory, MEMORY_UNIT_BYTES, "bytes");
    let storage = |resources: &Resources| amount(resources.storage, STORAGE_UNIT_BYTES, "bytes");
    note(found, "cpu", cpu(derived), cpu(on_chain));
    note(found, "memory", memory(derived), memory(on_chain));
    note(found, "storage", storage(derived), storage(on_chain));
    note(found, "GPUs", derived.gpu_count, on_chain.gpu_count);
    note(
        found,
        "acceptable GPU ids",
        gpu_ids(&derived.gpus),
        gpu_ids(&on_chain.gpus),
    );
}

fn gpu_ids(set: &GpuSet) -> String {
    match set.len() {
        0 => "none".to_owned(),
        all if all == usize::from(GPU_ID_MAXIMUM) => "any".to_owned(),
        _ => set.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(", "),
    }
}

fn requirements(found: &mut Vec<FieldDifference>, derived: &Requirements, on_chain: &Requirements) {
    let mode = |requirements: &Requirements| match requirements.mode {
        Mode::Provider => "provider",
        Mode::Fizz => "fizz",
    };
    let tiers = |requirements: &Requirements| {
        let tiers = (1..=7).filter(|tier| requirements.tiers.contains(*tier));
        tiers.map(|tier: u8| tier.to_string()).collect::<Vec<_>>().join(", ")
    };
    let attributes = |requirements: &Requirements| format!("{:?}", requirements.attributes.levels());
    note(found, "mode", mode(derived), mode(on_chain));
    note(found, "tiers", tiers(derived), tiers(on_chain));
    note(
        found,
        "preferred region",
        derived.preferred_region,
        on_chain.preferred_region,
    );
    note(found, "preferred zone", derived.preferred_zone, on_chain.preferred_zone);
    note(found, "compliance flags", derived.compliance, on_chain.compliance);
    note(found, "attribute minimums", attributes(derived), attributes(on_chain));
    note(
        found,
        "matching parameters version",
        derived.params_version,
        on_chain.params_version,
    );
}

fn rest(found: &mut Vec<FieldDifference>, derived: &Terms, on_chain: &Terms) {
    let suppliers = |ids: &[u32]| match ids {
        [] => "any".to_owned(),
        ids => ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(", "),
    };
    let excluded = |ids: &[u32]| {
        if ids.is_empty() {
            "none".to_owned()
        } else {
            suppliers(ids)
        }
    };
    let regions = |terms: &Terms| format!("{:#x}", terms.regions);
    note(found, "regions", regions(derived), regions(on_chain));
    note(found, "manifest hash", derived.manifest_hash, on_chain.manifest_hash);
    note(found, "maximum rate", derived.maximum_rate, on_chain.maximum_rate);
    note(found, "duration in seconds", derived.duration, on_chain.duration);
    let wanted = |terms: &Terms| suppliers(&terms.wanted_suppliers);
    note(found, "wanted suppliers", wanted(derived), wanted(on_chain));
    let excluded = |terms: &Terms| excluded(&terms.excluded_suppliers);
    note(found, "excluded suppliers", excluded(derived), excluded(on_chain));
}
