//! From a manifest to the order terms on chain: the same function for the user who orders and for the provider who
//! checks what it was sent.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use avs::terms::Terms;
use avs::words::{
    CPU_MEMORY_MAXIMUM, CPU_UNIT_MILLIS, GPU_COUNT_MAXIMUM, GPU_ID_MAXIMUM, GpuSet, MEMORY_UNIT_BYTES, STORAGE_MAXIMUM,
    STORAGE_UNIT_BYTES, TierSet, WordError,
};
use serde::{Deserialize, Serialize};

use crate::canonical::SaltedManifest;
use crate::model::{GpuKind, Manifest, Mode, Placement};
use crate::price::maximum_rate;

/// A payment token as the network lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Id on chain, 0 to 31.
    pub id: u8,
    /// Decimals of its smallest unit.
    pub decimals: u8,
}

/// A kind of GPU as the network lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuModel {
    /// Vendor in lower case: `nvidia`.
    pub vendor: String,
    /// Model in lower case: `rtx4090`.
    pub model: String,
    /// Video memory in bytes.
    pub memory_bytes: u64,
    /// `pcie` or `sxm`, where the model comes with either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// What the names in a manifest stand for on one network. Both sides of an order must hold the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Catalog {
    /// Payment tokens by symbol.
    pub tokens: BTreeMap<String, Token>,
    /// Kinds of GPU by their governed id, 1 to 159.
    pub gpus: BTreeMap<u8, GpuModel>,
    /// Region ids by name, 1 to 255.
    pub regions: BTreeMap<String, u8>,
    /// Supplier ids by the address they are registered under: at least those in [`named_suppliers`].
    #[serde(skip)]
    pub suppliers: BTreeMap<Address, u32>,
}

/// An order as it goes on chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRequest {
    /// Id of the payment token.
    pub token: u8,
    /// Everything else.
    pub terms: Terms,
}

/// Why a manifest is no order on this network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// More than the market can count.
    #[error("the services together ask for {}, the most is {}", .0.found(), .0.expected())]
    Totals(TotalsError),
    /// No such token.
    #[error("the token {symbol} is not listed on this network; listed are: {listed}")]
    UnknownToken {
        /// The symbol in the file.
        symbol: String,
        /// The network's symbols.
        listed: String,
    },
    /// The price is not zero but too small to count.
    #[error("the price of {total} {symbol} an hour is less than one unit of the token in ten hours; raise `amount`")]
    RateTooSmall {
        /// Sum of the prices as text.
        total: String,
        /// The token.
        symbol: String,
    },
    /// The price has more than 84 bits.
    #[error("the price in {symbol} is too large for the market; lower `amount`")]
    RateTooLarge {
        /// The token.
        symbol: String,
    },
    /// No such region.
    #[error("the region {region} is not listed on this network; listed are: {listed}")]
    UnknownRegion {
        /// The region in the file.
        region: String,
        /// The network's regions.
        listed: String,
    },
    /// No GPU fits.
    #[error("no GPU listed on this network is {wanted}; listed are: {listed}")]
    NoSuchGpu {
        /// What the file asks for.
        wanted: String,
        /// The network's models.
        listed: String,
    },
    /// Nobody is registered under an address.
    #[error("{address} is not registered as a supplier; correct or remove it in `attributes`")]
    UnknownSupplier {
        /// The address in the file.
        address: Address,
    },
    /// Orders to fizz nodes cannot be bound to a gateway.
    #[error("`desired_provider` cannot be combined with `mode: fizz`; name the nodes with `desired_fizz`")]
    GatewayNotSelectable,
    /// The catalog itself is wrong.
    #[error("the network's list of GPUs or regions is unusable")]
    Catalog(#[source] WordError),
}

/// What the services of a manifest ask for together, in the market's units, each sum rounded up once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Units of 10 milli-CPU.
    pub cpu: u32,
    /// Units of 16 MiB.
    pub memory: u32,
    /// Units of 256 MiB.
    pub storage: u32,
    /// Whole GPUs.
    pub gpu_count: u16,
}

/// A sum that the market's words cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TotalsError {
    resource: &'static str,
    unit: &'static str,
    total: u128,
    maximum: u128,
}

impl TotalsError {
    /// What was asked for.
    pub fn found(&self) -> String {
        format!("{} {} of {} in all", self.total, self.unit, self.resource)
    }

    /// What can be asked for.
    pub fn expected(&self) -> String {
        format!(
            "at most {} {} of {} in all services together",
            self.maximum, self.unit, self.resource
        )
    }
}

/// Sums over every container of every service.
///
/// # Errors
/// The first resource of which there is more than the market's words hold.
pub fn totals(manifest: &Manifest) -> Result<Totals, TotalsError> {
    let sum = |of_one: &dyn Fn(&crate::model::Resources) -> u128| -> u128 {
        let services = manifest.services.values();
        services
            .map(|service| of_one(&service.resources).saturating_mul(service.count.into()))
            .fold(0, u128::saturating_add)
    };
    // A container whose own sum overflows asks for more than any machine has: the largest number says so.
    let bytes = |sum: Option<u64>| sum.map_or(u128::MAX, u128::from);
    let milli_cpu = sum(&|resources| resources.milli_cpu.into());
    let memory = sum(&|resources| bytes(resources.total_memory_bytes()));
    let storage = sum(&|resources| bytes(resources.total_storage_bytes()));
    let gpus = sum(&|resources| resources.gpu.as_ref().map_or(0, |gpu| gpu.units.into()));
    let in_units = |resource, unit, total: u128, size: u64, maximum: u32| {
        u32::try_from(total.div_ceil(size.into()))
            .ok()
            .filter(|units| *units <= maximum)
            .ok_or(TotalsError {
                resource,
                unit,
                total,
                maximum: u128::from(maximum) * u128::from(size),
            })
    };
    let gpu_count = in_units("GPU", "units", gpus, 1, GPU_COUNT_MAXIMUM.into())?;
    Ok(Totals {
        cpu: in_units("CPU", "thousandths", milli_cpu, CPU_UNIT_MILLIS, CPU_MEMORY_MAXIMUM)?,
        memory: in_units("memory", "bytes", memory, MEMORY_UNIT_BYTES, CPU_MEMORY_MAXIMUM)?,
        storage: in_units("storage", "bytes", storage, STORAGE_UNIT_BYTES, STORAGE_MAXIMUM)?,
        gpu_count: u16::try_from(gpu_count).unwrap_or(GPU_COUNT_MAXIMUM),
    })
}

/// The addresses whose supplier ids [`derive`] needs in its catalog.
pub fn named_suppliers(manifest: &Manifest) -> impl Iterator<Item = Address> + '_ {
    let placement = &manifest.requirements.placement;
    let sets = [
        &placement.providers,
        &placement.excluded_providers,
        &placement.fizz_nodes,
        &placement.excluded_fizz_nodes,
    ];
    sets.into_iter().flatten().copied()
}

/// The order that a manifest becomes.
///
/// `params_version` is the version of the matching parameters that new orders name (a provider takes it from the order
/// that it checks).
///
/// # Errors
/// What the network does not have or cannot count.
pub fn derive(salted: &SaltedManifest, catalog: &Catalog, params_version: u16) -> Result<OrderRequest, OrderError> {
    let manifest = &salted.manifest;
    let requirements = &manifest.requirements;
    let symbol = &requirements.token;
    let token = catalog.tokens.get(symbol).ok_or_else(|| OrderError::UnknownToken {
        symbol: symbol.clone(),
        listed: listing(catalog.tokens.keys().map(String::as_str)),
    })?;
    let totals = totals(manifest).map_err(OrderError::Totals)?;
    let resources = avs::words::Resources {
        storage: totals.storage,
        memory: totals.memory,
        cpu: totals.cpu,
        gpu_count: totals.gpu_count,
        gpus: acceptable_gpus(manifest, catalog)?,
    };
    let words = avs::words::Requirements {
        mode: match requirements.mode {
            Mode::Provider => avs::words::Mode::Provider,
            Mode::Fizz => avs::words::Mode::Fizz,
        },
        tiers: TierSet::from_tiers(requirements.tiers.iter().copied()).map_err(OrderError::Catalog)?,
        params_version,
        ..avs::words::Requirements::default()
    };
    let (wanted_suppliers, excluded_suppliers) = suppliers(requirements.mode, &requirements.placement, catalog)?;
    let terms = Terms {
        resources: resources.pack().map_err(OrderError::Catalog)?,
        requirements: words.pack().map_err(OrderError::Catalog)?,
        regions: regions(&requirements.placement, catalog)?,
        manifest_hash: salted.hash(),
        maximum_rate: maximum_rate(manifest, token.decimals)?,
        duration: u32::try_from(requirements.duration_seconds).unwrap_or(u32::MAX),
        wanted_suppliers,
        excluded_suppliers,
    };
    Ok(OrderRequest { token: token.id, terms })
}

/// Every listed GPU that one of the accepted kinds fits; all ids there can be where the file accepts any, so that a GPU
/// listed tomorrow may serve an order of today.
fn acceptable_gpus(manifest: &Manifest, catalog: &Catalog) -> Result<GpuSet, OrderError> {
    let Some(gpu) = manifest
        .services
        .values()
        .find_map(|service| service.resources.gpu.as_ref())
    else {
        return Ok(GpuSet::default());
    };
    if gpu.accept.is_empty() {
        return GpuSet::from_ids(1..=GPU_ID_MAXIMUM).map_err(OrderError::Catalog);
    }
    let fits = |model: &GpuModel| gpu.accept.iter().any(|kind| fits(kind, model));
    let ids = catalog.gpus.iter().filter(|(_, model)| fits(model)).map(|(id, _)| *id);
    let set = GpuSet::from_ids(ids).map_err(OrderError::Catalog)?;
    if set.is_empty() {
        let wanted = gpu.accept.iter().map(describe_kind).collect::<Vec<_>>().join(" or ");
        let listed = listing(catalog.gpus.values().map(|model| model.model.as_str()));
        return Err(OrderError::NoSuchGpu { wanted, listed });
    }
    Ok(set)
}

fn fits(kind: &GpuKind, model: &GpuModel) -> bool {
    kind.vendor == model.vendor
        && kind.model.as_ref().is_none_or(|wanted| *wanted == model.model)
        && kind
            .minimum_memory_bytes
            .is_none_or(|minimum| model.memory_bytes >= minimum)
        && kind
            .interface
            .as_ref()
            .is_none_or(|wanted| model.interface.as_ref() == Some(wanted))
}

fn describe_kind(kind: &GpuKind) -> String {
    let mut text = kind.vendor.clone();
    for part in [kind.model.as_ref(), kind.interface.as_ref()].into_iter().flatten() {
        text.push(' ');
        text.push_str(part);
    }
    if let Some(minimum) = kind.minimum_memory_bytes {
        text.push_str(&format!(" with at least {minimum} bytes of memory"));
    }
    text
}

/// Bitmap of acceptable regions; all ones where the file restricts nothing.
fn regions(placement: &Placement, catalog: &Catalog) -> Result<U256, OrderError> {
    let bit = |region: &String| {
        let id = catalog.regions.get(region).ok_or_else(|| OrderError::UnknownRegion {
            region: region.clone(),
            listed: listing(catalog.regions.keys().map(String::as_str)),
        })?;
        Ok(U256::from(1) << usize::from(*id))
    };
    let union = |regions: &std::collections::BTreeSet<String>| {
        regions
            .iter()
            .try_fold(U256::ZERO, |bits, region| Ok(bits | bit(region)?))
    };
    let excluded = union(&placement.excluded_regions)?;
    if !placement.regions.is_empty() {
        return Ok(union(&placement.regions)? & !excluded);
    }
    // Who has no region (bit 0) might be in an excluded one.
    let unknown = if excluded.is_zero() { U256::ZERO } else { U256::from(1) };
    Ok(!(excluded | unknown))
}

/// The regions of such a bitmap, by the names that go with their ids.
pub fn region_names(bitmap: U256, names: &BTreeMap<u8, String>) -> String {
    let listed = |ids: &mut dyn Iterator<Item = u8>| {
        let named = ids.map(|id| names.get(&id).cloned().unwrap_or_else(|| id.to_string()));
        named.collect::<Vec<_>>().join(", ")
    };
    // The highest id is nobody's: a set that holds it leaves some out.
    if bitmap.bit(255) {
        let excluded = listed(&mut (1..=255u8).filter(|id| !bitmap.bit(usize::from(*id))));
        return match excluded.is_empty() {
            true => "any".to_owned(),
            false => format!("any but {excluded}"),
        };
    }
    match listed(&mut (1..=255u8).filter(|id| bitmap.bit(usize::from(*id)))) {
        none if none.is_empty() => "none".to_owned(),
        some => some,
    }
}

/// Wanted and excluded supplier ids, ascending.
fn suppliers(mode: Mode, placement: &Placement, catalog: &Catalog) -> Result<(Vec<u32>, Vec<u32>), OrderError> {
    let ids = |addresses: &mut dyn Iterator<Item = &Address>| {
        let id = |address: &Address| {
            catalog
                .suppliers
                .get(address)
                .copied()
                .ok_or(OrderError::UnknownSupplier { address: *address })
        };
        let mut ids = addresses.map(id).collect::<Result<Vec<u32>, _>>()?;
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    };
    // The rule compares the supplier of a bid with the wanted ones: the fizz node in mode fizz, whatever its gateway.
    let wanted = match mode {
        Mode::Provider => &placement.providers,
        Mode::Fizz if placement.providers.is_empty() || !placement.fizz_nodes.is_empty() => &placement.fizz_nodes,
        Mode::Fizz => return Err(OrderError::GatewayNotSelectable),
    };
    let excluded = &mut placement
        .excluded_providers
        .iter()
        .chain(&placement.excluded_fizz_nodes);
    Ok((ids(&mut wanted.iter())?, ids(excluded)?))
}

fn listing<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
