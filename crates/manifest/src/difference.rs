//! What differs between the order a manifest stands for and the order on chain, field by field.

use std::fmt;

use alloy_primitives::{B256, U256};
use avs::terms::Terms;
use avs::words::{
    CPU_UNIT_MILLIS, GPU_ID_MAXIMUM, GpuSet, MEMORY_UNIT_BYTES, Mode, Requirements, Resources, STORAGE_UNIT_BYTES,
};

use crate::order::OrderRequest;

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDifference {
    /// Name of the field.
    pub field: &'static str,
    /// What the manifest stands for.
    pub derived: FieldValue,
    /// What was ordered.
    pub on_chain: FieldValue,
}

/// What stands in a field, in the order's own units. As text it names them where the field's name does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// A number that is none of those below.
    Count(u64),
    /// A payment token by its id.
    Token(u8),
    /// Thousandths of a CPU.
    MilliCpu(u64),
    /// Memory or storage.
    Bytes(u64),
    /// A length of time.
    Seconds(u32),
    /// Token units per 36 000 seconds.
    Rate(u128),
    /// Acceptable GPU models by their ids.
    Gpus(GpuSet),
    /// Where it runs.
    Mode(Mode),
    /// Acceptable trust tiers, ascending.
    Tiers(Vec<u8>),
    /// The id of a region; zero is none.
    Region(u8),
    /// A bitmap of region ids; all ones is any.
    Regions(U256),
    /// Minimum level of each attribute.
    Attributes([u8; 8]),
    /// Suppliers by their ids, one of which must win; empty is any.
    Wanted(Vec<u32>),
    /// Suppliers by their ids, none of which may win.
    Excluded(Vec<u32>),
    /// The salted hash of a manifest.
    Hash(B256),
    /// A word that does not unpack.
    Word(U256),
}

impl fmt::Display for FieldValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(number) => write!(formatter, "{number}"),
            Self::Token(id) => write!(formatter, "{id}"),
            Self::MilliCpu(number) => write!(formatter, "{number} milli-CPU"),
            Self::Bytes(number) => write!(formatter, "{number} bytes"),
            Self::Seconds(number) => write!(formatter, "{number} seconds"),
            Self::Rate(number) => write!(formatter, "{number}"),
            Self::Gpus(set) if set.len() == usize::from(GPU_ID_MAXIMUM) => formatter.write_str("any"),
            Self::Gpus(set) => list(formatter, set.iter(), "none"),
            Self::Mode(Mode::Provider) => formatter.write_str("provider"),
            Self::Mode(Mode::Fizz) => formatter.write_str("fizz"),
            Self::Tiers(tiers) => list(formatter, tiers, ""),
            Self::Region(id) => write!(formatter, "{id}"),
            Self::Regions(bitmap) => write!(formatter, "{bitmap:#x}"),
            Self::Attributes(levels) => write!(formatter, "{levels:?}"),
            Self::Wanted(ids) => list(formatter, ids, "any"),
            Self::Excluded(ids) => list(formatter, ids, "none"),
            Self::Hash(hash) => write!(formatter, "{hash}"),
            Self::Word(word) => write!(formatter, "{word}"),
        }
    }
}

/// Values with commas between them, or a word for none.
fn list<T: fmt::Display>(
    formatter: &mut fmt::Formatter<'_>,
    values: impl IntoIterator<Item = T>,
    none: &str,
) -> fmt::Result {
    let shown: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    match shown.as_slice() {
        [] => formatter.write_str(none),
        shown => formatter.write_str(&shown.join(", ")),
    }
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
    let token: [Field<OrderRequest>; 1] = [("token", |order| FieldValue::Token(order.token))];
    compare(&mut found, &token, derived, on_chain);
    let (derived, on_chain) = (&derived.terms, &on_chain.terms);
    match (derived.unpack(), on_chain.unpack()) {
        (Ok(left), Ok(right)) => {
            compare(&mut found, &RESOURCES, &left.0, &right.0);
            compare(&mut found, &REQUIREMENTS, &left.1, &right.1);
        }
        // Terms that do not unpack are on no chain of ours; their words are all that can be said of them.
        _ => compare(&mut found, &WORDS, derived, on_chain),
    }
    compare(&mut found, &REST, derived, on_chain);
    found
}

/// A field of something: its name, and what stands in it.
type Field<T> = (&'static str, fn(&T) -> FieldValue);

/// Notes the fields in which two things differ.
fn compare<T>(found: &mut Vec<FieldDifference>, fields: &[Field<T>], derived: &T, on_chain: &T) {
    for (field, value) in fields {
        let (derived, on_chain) = (value(derived), value(on_chain));
        if derived != on_chain {
            found.push(FieldDifference {
                field,
                derived,
                on_chain,
            });
        }
    }
}

const RESOURCES: [Field<Resources>; 5] = [
    ("cpu", |all| FieldValue::MilliCpu(u64::from(all.cpu) * CPU_UNIT_MILLIS)),
    ("memory", |all| {
        FieldValue::Bytes(u64::from(all.memory) * MEMORY_UNIT_BYTES)
    }),
    ("storage", |all| {
        FieldValue::Bytes(u64::from(all.storage) * STORAGE_UNIT_BYTES)
    }),
    ("GPUs", |all| FieldValue::Count(all.gpu_count.into())),
    ("acceptable GPU ids", |all| FieldValue::Gpus(all.gpus)),
];

const REQUIREMENTS: [Field<Requirements>; 7] = [
    ("mode", |all| FieldValue::Mode(all.mode)),
    ("tiers", |all| {
        FieldValue::Tiers((1..=7).filter(|tier| all.tiers.contains(*tier)).collect())
    }),
    ("preferred region", |all| FieldValue::Region(all.preferred_region)),
    ("preferred zone", |all| FieldValue::Count(all.preferred_zone.into())),
    ("compliance flags", |all| FieldValue::Count(all.compliance.into())),
    ("attribute minimums", |all| {
        FieldValue::Attributes(all.attributes.levels())
    }),
    ("matching parameters version", |all| {
        FieldValue::Count(all.params_version.into())
    }),
];

const WORDS: [Field<Terms>; 2] = [
    ("resource word", |terms| FieldValue::Word(terms.resources)),
    ("requirement word", |terms| FieldValue::Word(terms.requirements)),
];

const REST: [Field<Terms>; 6] = [
    ("regions", |terms| FieldValue::Regions(terms.regions)),
    ("manifest hash", |terms| FieldValue::Hash(terms.manifest_hash)),
    ("maximum rate", |terms| FieldValue::Rate(terms.maximum_rate)),
    ("duration", |terms| FieldValue::Seconds(terms.duration)),
    ("wanted suppliers", |terms| {
        FieldValue::Wanted(terms.wanted_suppliers.clone())
    }),
    ("excluded suppliers", |terms| {
        FieldValue::Excluded(terms.excluded_suppliers.clone())
    }),
];
