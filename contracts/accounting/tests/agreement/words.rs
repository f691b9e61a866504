//! What the model has as plain numbers, packed and hashed as the contracts take it.

use accounting::{
    Answer, Reason, Who,
    model::{Basis, Pool, Schedule, Supplier, Terms},
};
use alloy_primitives::{Address, B256, Bytes, U256, aliases::U96, keccak256};
use alloy_sol_types::{Eip712Domain, eip712_domain};

use crate::{
    abi::{FeeSchedule, LeaseResources, OrderState, OrderTerms},
    cast::sign,
    chain::CHAIN_ID,
};

pub(crate) fn domain(name: &'static str, verifying_contract: Address) -> Eip712Domain {
    eip712_domain! {
        name: name,
        version: "1",
        chain_id: CHAIN_ID,
        verifying_contract: verifying_contract,
    }
}

/// Somebody else, if it is forged.
pub(crate) fn signer_of(who: Who, forged: bool) -> Who {
    match (forged, who) {
        (false, who) => who,
        (true, Who::Stranger) => Who::Sam,
        (true, _) => Who::Stranger,
    }
}

/// As contracts take it in one piece.
pub(crate) fn signature(signer: Who, digest: B256) -> Bytes {
    let (r, s, v) = sign(signer, digest);
    [r.as_slice(), s.as_slice(), &[v]].concat().into()
}

pub(crate) fn order_state(reason: Reason) -> OrderState {
    OrderState::try_from(reason as u8).expect("a state of the interface")
}

/// Epoch 24 bits, setting of the right 24, pair of schedules 8; zero is none.
pub(crate) fn basis_word(basis: Option<Basis>) -> u64 {
    basis.map_or(0, |basis| {
        u64::from(basis.epoch) << 32 | u64::from(basis.setting) << 8 | u64::from(basis.schedule / 2)
    })
}

/// Provider mode, every tier, any region.
pub(crate) fn order_terms(terms: &Terms) -> OrderTerms {
    OrderTerms {
        resources: resource_word(terms),
        requirements: U256::from(0xfe_u16) << 8 | U256::from(terms.params_version) << 88,
        regions: U256::MAX,
        manifestHash: if terms.manifest == 0 {
            B256::ZERO
        } else {
            keccak256(terms.manifest.to_be_bytes())
        },
        maximumRate: U96::from(terms.maximum_rate),
        duration: terms.duration,
        wantedSuppliers: Vec::new(),
        excludedSuppliers: Vec::new(),
    }
}

fn resource_word(terms: &Terms) -> U256 {
    let pools = U256::from(terms.storage) | U256::from(terms.memory) << 22 | U256::from(terms.cpu) << 42;
    let ids = terms
        .gpu_ids
        .iter()
        .fold(U256::ZERO, |bits, id| bits | U256::ONE << (96 + usize::from(*id)));
    pools | U256::from(terms.gpus) << 62 | ids
}

pub(crate) fn lease_resources(terms: &Terms) -> LeaseResources {
    let whole = order_terms(terms);
    let words = [
        whole.requirements,
        whole.regions,
        whole.manifestHash.into(),
        U256::from(whole.maximumRate),
        U256::from(whole.duration),
        U256::ZERO,
        U256::ZERO,
    ];
    LeaseResources {
        resources: whole.resources,
        restHash: keccak256(words.map(|word| word.to_be_bytes::<32>()).concat()),
    }
}

/// What a terms hash is taken of, and the hash.
pub(crate) fn terms_hash(terms: &Terms) -> B256 {
    let LeaseResources { resources, restHash } = lease_resources(terms);
    keccak256([resources.to_be_bytes::<32>(), restHash.0].concat())
}

/// What the chain keeps of a proposal.
pub(crate) fn proposal_hash(terms: &Terms) -> B256 {
    let words = [U256::from(terms.maximum_rate), U256::from(terms.duration)];
    let tail = words.map(|word| word.to_be_bytes::<32>()).concat();
    keccak256([terms_hash(terms).as_slice(), &tail].concat())
}

pub(crate) fn answer_words(answer: &Answer) -> Vec<U256> {
    let header = U256::from(answer.order) << 8 | U256::from(answer.ranks.len());
    if answer.ranks.is_empty() {
        return vec![header];
    }
    let LeaseResources { resources, restHash } = lease_resources(&answer.terms);
    let ranks = answer.ranks.iter().map(|rank| {
        U256::from(rank.provider) << 118
            | U256::from(rank.fizz) << 86
            | U256::from(rank.rate) << 2
            | U256::from(rank.gpu_entry)
    });
    [header, resources, restHash.into()].into_iter().chain(ranks).collect()
}

/// As the contracts take it.
pub(crate) fn fee_schedule(schedule: &Schedule) -> FeeSchedule {
    FeeSchedule {
        commission: schedule.commission as u16,
        userFee: schedule.user_fee as u16,
        providerFee: schedule.provider_fee as u16,
        gatewayShare: schedule.gateway_share as u16,
        matchFee: U96::from(schedule.match_fee),
    }
}

/// A supplier's capacity as the contracts show it: see `Capacity.sol`.
pub(crate) fn capacity_word(supplier: &Supplier) -> U256 {
    let pair = |pool: Pool, offset: usize, width: usize| {
        U256::from(pool.free) << offset | U256::from(pool.total) << (offset + width)
    };
    let mut word = pair(supplier.storage, 0, 22) | pair(supplier.memory, 44, 20) | pair(supplier.cpu, 84, 20);
    for (entry, gpu) in supplier.gpus.iter().enumerate() {
        word |= pair(gpu.pool, 124 + 32 * entry, 12) | U256::from(gpu.id) << (148 + 32 * entry);
    }
    word | U256::from(!supplier.suspended) << 252
}
