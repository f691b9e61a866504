//! Questions: mostly orders and bids as contracts take them, with every bound hit on purpose, and some that none would take.

use alloy_primitives::{B256, U256};
use avs::{
    matching::{Parameters, RANDOMNESS_WEIGHT_MAXIMUM, RANK_LIMIT_MAXIMUM, SCORE_MAXIMUM},
    terms::Terms,
    words::{DURATION_MAXIMUM, PackedBid, RATE_MAXIMUM},
};
use serde_json::{Value, json};

use crate::{
    Source,
    fields::{Field, near},
};

/// Bids that an order book takes for one order.
const MOST_BIDS: u128 = 512;
/// One case in so many has the most bids, and one has none.
const FULL_EVERY: u64 = 500;

/// One order with its bids, and all else that its ranks depend on.
#[derive(Debug, Clone)]
pub struct Case {
    pub chain_id: u64,
    pub order_id: u64,
    pub close_block: u32,
    pub close_block_hash: B256,
    pub parameters: Parameters,
    pub terms: Terms,
    /// In log order.
    pub bids: Vec<PackedBid>,
}

impl Case {
    /// The case of this number in the run of this seed.
    pub fn new(seed: u64, number: u64) -> Self {
        let source = &mut Source::new(seed, number);
        // All bids alike but for who bids: only rates and ids decide.
        let alike = source.chance(12);
        let parameters = parameters(source, alike);
        let wish = Wish::new(source);
        let mut terms = wish.terms(source);
        if source.chance(4) {
            terms = malformed(source, terms);
        }
        let count = match number % FULL_EVERY {
            0 => 0,
            1 => MOST_BIDS,
            _ => match source.between(0, 99) {
                0..=14 => 1,
                15..=79 => source.between(2, 8),
                80..=95 => source.between(9, 24),
                _ => source.between(25, 70),
            },
        };
        // Few bidders bid often.
        let bidders = if source.chance(50) {
            1 + count / 2
        } else {
            1 + 4 * count
        };
        let first = wish.bid(source, bidders);
        let bids = (0..count).map(|_| {
            let bid = if alike {
                wish.same(source, first, bidders)
            } else {
                wish.bid(source, bidders)
            };
            if source.chance(3) { hostile(source, bid) } else { bid }
        });
        let bids = bids.collect();
        let token = if source.chance(98) {
            wish.token
        } else {
            source.between(0, 255)
        };
        Self {
            chain_id: source.pick(&[1, 31337, 8453, u64::MAX - 1]),
            order_id: (source.bits(32) << 32 | token << 24 | source.bits(24)) as u64,
            close_block: source.bits(32) as u32,
            close_block_hash: word(source).into(),
            parameters,
            terms,
            bids,
        }
    }

    /// As the vectors of `avs/vectors` write it.
    pub fn to_json(&self) -> Value {
        let Terms {
            resources,
            requirements,
            regions,
            manifest_hash,
            maximum_rate,
            duration,
            wanted_suppliers,
            excluded_suppliers,
        } = &self.terms;
        let words = |bid: &PackedBid| [bid.offer, bid.score_card, bid.capacity];
        json!({
            "chainId": self.chain_id,
            "orderId": self.order_id,
            "closeBlock": self.close_block,
            "closeBlockHash": self.close_block_hash,
            "parameters": {
                "weights": self.parameters.weights(),
                "stakeCap": self.parameters.stake_cap(),
                "rankLimit": self.parameters.rank_limit(),
                "chunkSize": self.parameters.chunk_size(),
            },
            "terms": {
                "resources": resources,
                "requirements": requirements,
                "regions": regions,
                "manifestHash": manifest_hash,
                "maximumRate": format!("{maximum_rate:#x}"),
                "duration": duration,
                "wanted": wanted_suppliers,
                "excluded": excluded_suppliers,
            },
            "bids": self.bids.iter().map(words).collect::<Vec<_>>(),
        })
    }
}

/// What an order asks for, and what bids are therefore made near of.
struct Wish {
    storage: u128,
    memory: u128,
    cpu: u128,
    gpu_count: u128,
    gpu_model: u128,
    on_fizz: bool,
    tiers: u128,
    region: u128,
    zone: u128,
    compliance: u128,
    /// The lowest level of every attribute.
    level: u128,
    token: u128,
    any_region: bool,
    maximum_rate: u128,
    /// Ids run from here; high ones reach the last of all.
    first_id: u128,
    wanted: Vec<u32>,
    excluded: Vec<u32>,
}

impl Wish {
    fn new(source: &mut Source) -> Self {
        let amount = |source: &mut Source, least: u128, maximum: u128| {
            let anything = source.between(least, maximum);
            source.pick(&[least, 1, 40, 1000, 1000, maximum, anything])
        };
        let small_rate = source.between(1, 50);
        let any_rate = source.between(1, RATE_MAXIMUM);
        let first_id = source.pick(&[0, 1, 1, 1000, u128::from(u32::MAX) - 40]);
        let mut list = |percent: u64, most: u128| -> Vec<u32> {
            if !source.chance(percent) {
                return Vec::new();
            }
            let count = source.between(1, most);
            let mut ids: Vec<u32> = (0..count).map(|_| id(first_id, source.between(0, 2 * most))).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let (wanted, excluded) = (list(12, 64), list(25, 64));
        Self {
            storage: source.pick(&[0, 0, 1]) * amount(source, 0, (1 << 22) - 1),
            memory: amount(source, 1, (1 << 20) - 1),
            cpu: amount(source, 1, (1 << 20) - 1),
            gpu_count: source.pick(&[0, 0, 0, 1, 2, 8, 4095]),
            gpu_model: source.between(1, 159),
            on_fizz: source.chance(40),
            tiers: source.pick(&[0xfe, 0xfe, 0xfe, 0b110, 0b1000_0000]),
            region: source.pick(&[0, 0, 1, 7, 255]),
            zone: source.pick(&[0, 0, 1, 255]),
            compliance: source.pick(&[0, 0, 0, 1, 0x8001, 0xffff]),
            level: source.pick(&[0, 0, 0, 1, 7, 15]),
            token: source.pick(&[0, 1, 31]),
            any_region: source.chance(70),
            maximum_rate: source.pick(&[1, 2, small_rate, 1_000_000, 1_000_000_007, any_rate, RATE_MAXIMUM]),
            first_id,
            wanted,
            excluded,
        }
    }

    fn terms(&self, source: &mut Source) -> Terms {
        let other_models = U256::from(source.bits(127)) << 97 & U256::from(source.bits(127)) << 97;
        let gpus = (U256::from(1) << (96 + self.gpu_model as usize)) | other_models;
        let resources = Field(0, 22).of(self.storage)
            | Field(22, 20).of(self.memory)
            | Field(42, 20).of(self.cpu)
            | Field(62, 12).of(self.gpu_count)
            | if self.gpu_count > 0 { gpus } else { U256::ZERO };
        let levels = (0..8).fold(0, |levels, index| levels | self.level << (5 * index));
        let requirements = Field(0, 8).of(self.on_fizz.into())
            | Field(8, 8).of(self.tiers)
            | Field(16, 8).of(self.region)
            | Field(24, 8).of(self.zone)
            | Field(32, 16).of(self.compliance)
            | Field(48, 40).of(levels)
            | Field(88, 16).of(source.bits(16));
        let own_region = U256::from(1) << (self.region as usize);
        Terms {
            resources,
            requirements,
            regions: if self.any_region {
                U256::MAX
            } else {
                own_region | word(source) & word(source)
            },
            manifest_hash: word(source).into(),
            maximum_rate: self.maximum_rate,
            duration: near(source, DURATION_MAXIMUM.into(), 3600).max(1) as u32,
            wanted_suppliers: self.wanted.clone(),
            excluded_suppliers: self.excluded.clone(),
        }
    }

    fn bid(&self, source: &mut Source, bidders: u128) -> PackedBid {
        let rate = match source.between(0, 9) {
            0 => near(source, RATE_MAXIMUM, self.maximum_rate),
            1 => self.maximum_rate,
            2 => 1,
            _ => source.between(1, self.maximum_rate),
        };
        PackedBid {
            offer: self.offer(source, bidders, rate),
            score_card: self.score_card(source),
            capacity: self.capacity(source),
        }
    }

    /// The same bid of somebody, at one of three rates.
    fn same(&self, source: &mut Source, bid: PackedBid, bidders: u128) -> PackedBid {
        let least = self.maximum_rate.saturating_sub(2).max(1);
        let rate = source.between(least, self.maximum_rate);
        PackedBid {
            offer: self.offer(source, bidders, rate),
            ..bid
        }
    }

    fn offer(&self, source: &mut Source, bidders: u128, rate: u128) -> U256 {
        let on_fizz = self.on_fizz != source.chance(3);
        let fizz = if on_fizz {
            id(self.first_id, source.between(0, bidders))
        } else {
            0
        };
        let provider = id(self.first_id, source.between(0, bidders));
        Field(0, 32).of(source.bits(32))
            | Field(32, 84).of(rate)
            | Field(116, 32).of(fizz.into())
            | Field(148, 32).of(provider.into())
    }

    fn score_card(&self, source: &mut Source) -> U256 {
        let count = source.pick(&[0, 1, 7, 1000, u128::from(u32::MAX)]);
        let mean = source.between(0, 11);
        let feedback_sum = if source.chance(90) {
            count * mean + source.between(0, 9)
        } else {
            near(source, (1 << 40) - 1, 0)
        };
        let region = if source.chance(70) {
            self.region
        } else {
            source.pick(&[0, 1, 7, 255])
        };
        let zone = if source.chance(70) {
            self.zone
        } else {
            source.pick(&[0, 1, 2, 255])
        };
        let levels = (0..8).fold(0, |levels, index| {
            let most = if source.chance(2) { self.level } else { 15 };
            levels | source.between(self.level.min(most), most) << (5 * index)
        });
        let lowered = if source.chance(4) {
            levels & !(0xf << (5 * source.between(0, 7)))
        } else {
            levels
        };
        let tier = if source.chance(80) {
            self.tier(source)
        } else {
            source.between(0, 7)
        };
        let compliance = if source.chance(95) {
            self.compliance | source.bits(16)
        } else {
            source.bits(16)
        };
        let tokens = if source.chance(95) { 1 << self.token } else { 0 } | source.bits(32) & source.bits(32);
        let stake = near(source, (1 << 48) - 1, 1_000_000);
        Field(0, 48).of(stake)
            | Field(48, 16).of(near(source, 0xffff, 2))
            | Field(64, 32).of(count)
            | Field(96, 40).of(feedback_sum.min((1 << 40) - 1))
            | Field(136, 8).of(region)
            | Field(144, 8).of(zone)
            | Field(152, 3).of(tier)
            | Field(155, 40).of(lowered)
            | Field(195, 32).of(tokens)
            | Field(227, 16).of(compliance)
            | Field(243, 1).of(source.chance(97).into())
    }

    fn tier(&self, source: &mut Source) -> u128 {
        let accepted: Vec<u128> = (1..8).filter(|tier| self.tiers >> tier & 1 == 1).collect();
        source.pick(&accepted)
    }

    fn capacity(&self, source: &mut Source) -> U256 {
        let mut word = Field(252, 1).of(source.chance(97).into());
        let amounts = [
            (Field(0, 22), Field(22, 22), self.storage),
            (Field(44, 20), Field(64, 20), self.memory),
            (Field(84, 20), Field(104, 20), self.cpu),
        ];
        for (free, total, asked) in amounts {
            word |= amount(source, free, total, asked);
        }
        for entry in 0..4 {
            let at = 124 + 32 * entry;
            let model = if source.chance(60) {
                self.gpu_model
            } else {
                source.between(0, 255)
            };
            word |= amount(source, Field(at, 12), Field(at + 12, 12), self.gpu_count) | Field(at + 24, 8).of(model);
        }
        word
    }
}

/// Free and total of a resource: mostly enough, seldom nothing at all, too little, or more free than there is.
fn amount(source: &mut Source, free: Field, total: Field, asked: u128) -> U256 {
    let maximum = free.maximum();
    let (has, of) = match source.between(0, 49) {
        0 => (0, 0),
        1 => (near(source, maximum, asked), near(source, maximum, asked)),
        2 => (asked.saturating_sub(1), maximum),
        3..=7 => (asked, near(source, maximum, asked).max(asked)),
        8..=10 => (maximum, maximum),
        _ => {
            let of = source.between(asked, maximum);
            (source.between(asked, of), of)
        }
    };
    free.of(has) | total.of(of)
}

/// One or more bits turned over, or a word of nothing but noise.
fn hostile(source: &mut Source, bid: PackedBid) -> PackedBid {
    let PackedBid {
        mut offer,
        mut score_card,
        mut capacity,
    } = bid;
    let target = source.pick(&[0, 1, 2]);
    let broken = [&mut offer, &mut score_card, &mut capacity];
    let broken = broken.into_iter().nth(target).expect("there are three words");
    match source.between(0, 9) {
        0 => *broken = word(source),
        1 => *broken = U256::MAX,
        2 => *broken = U256::ZERO,
        _ => {
            for _ in 0..source.between(1, 2) {
                *broken ^= U256::from(1) << source.between(0, 255) as usize;
            }
        }
    }
    PackedBid {
        offer,
        score_card,
        capacity,
    }
}

/// Terms that no contract takes, mostly.
fn malformed(source: &mut Source, terms: Terms) -> Terms {
    let bit = U256::from(1) << source.between(0, 255) as usize;
    let lists = |source: &mut Source, list: &[u32]| {
        let mut list = list.to_vec();
        list.push(source.between(0, 90) as u32);
        list
    };
    match source.between(0, 7) {
        0 | 1 => Terms {
            resources: terms.resources ^ bit,
            ..terms
        },
        2 | 3 => Terms {
            requirements: terms.requirements ^ bit,
            ..terms
        },
        4 => Terms {
            maximum_rate: source.pick(&[0, RATE_MAXIMUM + 1, (1 << 96) - 1]),
            ..terms
        },
        5 => Terms {
            duration: source.pick(&[0, DURATION_MAXIMUM + 1, u32::MAX]),
            ..terms
        },
        6 => Terms {
            wanted_suppliers: lists(source, &terms.wanted_suppliers),
            ..terms
        },
        _ => Terms {
            excluded_suppliers: lists(source, &terms.excluded_suppliers),
            ..terms
        },
    }
}

/// Weights that sum to a full score, luck within its limit. `alike`: luck decides nothing.
fn parameters(source: &mut Source, alike: bool) -> Parameters {
    if !alike && source.chance(40) {
        return Parameters::default();
    }
    let full = u128::from(SCORE_MAXIMUM);
    let luck = if alike {
        0
    } else {
        near(source, RANDOMNESS_WEIGHT_MAXIMUM.into(), 1)
    };
    let mut cuts: Vec<u128> = (0..6).map(|_| near(source, full - luck, 0)).collect();
    cuts.extend([0, full - luck]);
    cuts.sort_unstable();
    let mut weights = [0; 8];
    for (weight, pair) in weights.iter_mut().zip(cuts.windows(2)) {
        *weight = (pair[1] - pair[0]) as u32;
    }
    weights[7] = luck as u32;
    let stake_cap = near(source, (1 << 48) - 1, 1_000_000).max(1) as u64;
    let rank_limit = source.between(1, RANK_LIMIT_MAXIMUM.into()) as u8;
    Parameters::new(weights, stake_cap, rank_limit, 64).expect("made to be valid")
}

/// An id some way from the first, at most the last there is.
fn id(first: u128, distance: u128) -> u32 {
    (first + distance).min(u32::MAX.into()) as u32
}

fn word(source: &mut Source) -> U256 {
    U256::from_limbs([source.number(), source.number(), source.number(), source.number()])
}
