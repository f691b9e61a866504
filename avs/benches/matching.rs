//! Nanoseconds per bid of the matching rule, from packed words in log order to the ranking, next to a plain u64 loop of the
//! same arithmetic and draws over the same words, which are given to it sorted and without repetitions.
//!
//! `--json` prints one object: `ratio` above 1 means that the rule is faster than the plain loop.

use std::{env, hint::black_box, time::Instant};

use alloy_primitives::{B256, U256, keccak256};
use avs::{
    draw::{self, Draws},
    matching::{Order, Parameters, rank},
    terms::Terms,
    words::{
        Attributes, Bid, Capacity, GpuEntry, GpuSet, Mode, Offer, PackedBid, Requirements, Resources, ScoreCard,
        TierSet,
    },
};

/// The most bids an order takes.
const BIDS: usize = 512;
const ROUNDS: usize = 301;
const REPETITIONS: usize = 20;
const ORDER_ID: u64 = 1 << 32 | 1;

fn main() {
    let terms = terms();
    let parameters = Parameters::default();
    let order = Order::new(&parameters, ORDER_ID, &terms).expect("the terms are well formed");
    let bids: Vec<Bid> = (0..BIDS as u32).map(bid).collect();
    let packed: Vec<PackedBid> = bids
        .iter()
        .map(|bid| bid.pack().expect("the bid is well formed"))
        .collect();
    let plain = plain_bids(&bids);
    let seed = draw::seed(1, ORDER_ID, B256::repeat_byte(9));

    let best = rank(&order, seed, &packed)[0];
    assert_eq!(
        best.provider,
        plain_loop(&plain, &parameters, seed),
        "both must find the same winner"
    );

    let (mut ours, mut peer) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        ours.push(nanoseconds_per_bid(|| {
            drop(black_box(rank(&order, black_box(seed), black_box(&packed))))
        }));
        peer.push(nanoseconds_per_bid(|| {
            black_box(plain_loop(black_box(&plain), &parameters, black_box(seed)));
        }));
    }
    report(median(ours), median(peer));
}

fn report(ours: f64, peer: f64) {
    let ratio = peer / ours;
    if env::args().any(|argument| argument == "--json") {
        println!(
            r#"{{"name":"matching","ours":{ours:.2},"peer":{peer:.2},"ratio":{ratio:.3},"unit":"ns/bid","peer_name":"plain u64 loop"}}"#
        );
    } else {
        println!("matching, {BIDS} bids: {ours:.2} ns/bid, plain u64 loop {peer:.2} ns/bid, ratio {ratio:.3}");
    }
}

fn nanoseconds_per_bid(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..REPETITIONS {
        work();
    }
    start.elapsed().as_nanos() as f64 / (REPETITIONS * BIDS) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn terms() -> Terms {
    let gpus = GpuSet::from_ids([2, 3]).expect("the ids exist");
    let requirements = Requirements {
        mode: Mode::Provider,
        tiers: TierSet::ANY,
        preferred_region: 2,
        preferred_zone: 1,
        compliance: 1,
        attributes: Attributes::from_levels([1, 0, 0, 2, 0, 0, 0, 0]).expect("the levels are small"),
        params_version: 1,
    };
    Terms {
        resources: Resources {
            storage: 10,
            memory: 64,
            cpu: 200,
            gpu_count: 1,
            gpus,
        }
        .pack()
        .expect("the amounts fit"),
        requirements: requirements.pack().expect("the requirements fit"),
        regions: U256::MAX,
        manifest_hash: B256::ZERO,
        maximum_rate: 50_000_000,
        duration: 3600,
        wanted_suppliers: Vec::new(),
        excluded_suppliers: Vec::new(),
    }
}

/// A bid from a hash of its number: distinct providers in no order, about one in ten refused.
fn bid(number: u32) -> Bid {
    let random = keccak256(number.to_be_bytes());
    let random = |at: usize| u32::from_be_bytes(random[at..at + 4].try_into().expect("four bytes"));
    Bid {
        offer: Offer {
            block: 100,
            rate: u128::from(1 + random(0) % 51_000_000),
            fizz: 0,
            provider: 1 + number * 307 % 509 * 2,
        },
        score_card: ScoreCard {
            stake: u64::from(random(4) % 1_500_000),
            slashes: (random(8) % 4) as u16,
            feedback_count: random(8) % 500,
            feedback_sum: u64::from(random(8) % 500 * 7),
            region: (random(12) % 4) as u8,
            zone: (random(12) % 3) as u8,
            tier: 1 + (random(12) % 7) as u8,
            attributes: Attributes::from_levels([3; 8]).expect("the levels are small"),
            tokens: 1,
            compliance: 1,
            active: random(16) % 20 != 0,
        },
        capacity: Capacity {
            storage_free: 100 + random(20) % 3000,
            storage_total: 4000,
            memory_free: 100 + random(20) % 7000,
            memory_total: 8000,
            cpu_free: 150 + random(24) % 6000,
            cpu_total: 6400,
            gpus: [
                GpuEntry {
                    id: 1,
                    free: 8,
                    total: 8,
                },
                GpuEntry {
                    id: 2,
                    free: (random(28) % 9) as u16,
                    total: 8,
                },
                GpuEntry {
                    id: 3,
                    free: 4,
                    total: 8,
                },
                GpuEntry::default(),
            ],
            active: true,
        },
    }
}

/// The same words, sorted by provider and without repetitions, each as four numbers.
type PlainBid = [[u64; 4]; 3];

fn plain_bids(bids: &[Bid]) -> Vec<PlainBid> {
    let mut last: Vec<&Bid> = Vec::new();
    for bid in bids {
        last.retain(|other| other.offer.provider != bid.offer.provider);
        last.push(bid);
    }
    last.sort_by_key(|bid| bid.offer.provider);
    let words = |bid: &&Bid| {
        let packed = bid.pack().expect("the bid is well formed");
        [packed.offer, packed.score_card, packed.capacity].map(U256::into_limbs)
    };
    last.iter().map(words).collect()
}

/// The same order, written out: filter, eight terms with a division each, a draw, and the best kept. Rates of this order fit
/// 64 bits.
fn plain_loop(bids: &[PlainBid], parameters: &Parameters, seed: B256) -> u32 {
    const FULL: u64 = 1_000_000;
    const GUARDS: u64 = 0x84_2108_4210;
    // Not known to the compiler, as in the rule.
    let (maximum, cap) = black_box((50_000_000u64, 1_000_000u64));
    let asked = black_box([200u64, 64, 10]);
    let (tiers, minimum, acceptable) = black_box((0xfeu64, 1 | 2 << 15, 0b1100u64));
    let weights = parameters.weights().map(u64::from);
    let mut draws = Draws::new(seed);
    let (mut best_total, mut best_rate, mut winner) = (0, u64::MAX, 0);
    for [offer, card, capacity] in bids {
        let rate = offer[0] >> 32 | (offer[1] & 0xffff_ffff) << 32;
        let tier = card[2] >> 24 & 7;
        let levels = (card[2] >> 27 | card[3] << 37) & 0xff_ffff_ffff;
        let free = [capacity[1] >> 20 & 0xf_ffff, capacity[0] >> 44, capacity[0] & 0x3f_ffff];
        let total = [
            capacity[1] >> 40 & 0xf_ffff,
            capacity[1] & 0xf_ffff,
            capacity[0] >> 22 & 0x3f_ffff,
        ];
        let fits = card[3] >> 51 & 1 == 1
            && capacity[3] >> 60 & 1 == 1
            && rate > 0
            && rate <= maximum
            && card[3] >> 3 & 1 == 1
            && tiers >> tier & 1 == 1
            && ((levels | GUARDS) - minimum) & GUARDS == GUARDS
            && card[3] >> 35 & 1 == 1
            && (0..3).all(|resource| free[resource] >= asked[resource]);
        if !fits {
            continue;
        }
        let entries = [
            capacity[1] >> 60 | capacity[2] << 4,
            capacity[2] >> 28,
            capacity[2] >> 60 | capacity[3] << 4,
            capacity[3] >> 28,
        ];
        let fitting = |entry: &&u64| acceptable >> (**entry >> 24 & 0x3f) & 1 == 1 && **entry & 0xfff >= 1;
        let Some(gpu) = entries.iter().find(fitting) else {
            continue;
        };
        let price = (maximum - rate) * FULL / maximum;
        let region = match (card[2] >> 8 & 0xff, card[2] >> 16 & 0xff) {
            (2, 1) => FULL,
            (2, _) => FULL / 2,
            _ => 0,
        };
        let feedback_sum = (card[1] >> 32) | (card[2] & 0xff) << 32;
        let feedback = match card[1] & 0xffff_ffff {
            0 => FULL / 2,
            count => (feedback_sum * (FULL / 10) / count).min(FULL),
        };
        let mut availability = ((gpu & 0xfff) - 1) * FULL / (gpu >> 12 & 0xfff);
        for resource in 0..3 {
            availability = availability.min((free[resource] - asked[resource]) * FULL / total[resource]);
        }
        let slashes = FULL / (1 + (card[0] >> 48));
        let tier = (8 - tier) * FULL / 7;
        let stake = (card[0] & 0xffff_ffff_ffff).min(cap) * FULL / cap;
        let terms = [
            price,
            region,
            feedback,
            availability,
            slashes,
            tier,
            stake,
            draws.next_draw().into(),
        ];
        let total: u64 = terms.iter().zip(weights).map(|(term, weight)| term * weight).sum();
        if total > best_total || (total == best_total && rate < best_rate) {
            (best_total, best_rate, winner) = (total, rate, (offer[2] >> 20) as u32);
        }
    }
    winner
}
