use std::collections::BTreeMap;

use alloy_primitives::U256;
use avs::words::{
    Attributes, Capacity, GpuEntry, GpuSet, MatchHeader, Mode, Offer, OrderId, RankedSupplier, Requirements, Resources,
    ScoreCard, TierSet, WordError,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    word: String,
    fields: BTreeMap<String, U256>,
    packed: U256,
}

impl Vector {
    fn wide(&self, field: &str) -> u128 {
        self.fields[field].to()
    }

    fn get<T: TryFrom<u128, Error: std::fmt::Debug>>(&self, field: &str) -> T {
        self.wide(field).try_into().unwrap()
    }

    fn flag(&self, field: &str) -> bool {
        self.wide(field) == 1
    }

    fn attributes(&self) -> Attributes {
        let packed = self.wide("attributes");
        Attributes::from_levels(std::array::from_fn(|index| (packed >> (5 * index)) as u8 & 0x1f)).unwrap()
    }

    /// Packs the fields and unpacks the word, both through the typed word.
    fn check(&self) {
        match self.word.as_str() {
            "offer" => {
                let offer = Offer {
                    block: self.get("block"),
                    rate: self.wide("rate"),
                    fizz: self.get("fizz"),
                    provider: self.get("provider"),
                };
                self.both_ways(offer, offer.pack(), Offer::unpack);
            }
            "scoreCard" => {
                let card = ScoreCard {
                    stake: self.get("stake"),
                    slashes: self.get("slashes"),
                    feedback_count: self.get("feedbackCount"),
                    feedback_sum: self.get("feedbackSum"),
                    region: self.get("region"),
                    zone: self.get("zone"),
                    tier: self.get("tier"),
                    attributes: self.attributes(),
                    tokens: self.get("tokens"),
                    compliance: self.get("compliance"),
                    active: self.flag("active"),
                };
                self.both_ways(card, card.pack(), ScoreCard::unpack);
            }
            "capacity" => {
                let capacity = Capacity {
                    storage_free: self.get("storageFree"),
                    storage_total: self.get("storageTotal"),
                    memory_free: self.get("memoryFree"),
                    memory_total: self.get("memoryTotal"),
                    cpu_free: self.get("cpuFree"),
                    cpu_total: self.get("cpuTotal"),
                    gpus: std::array::from_fn(|index| GpuEntry {
                        id: self.get(&format!("gpu{index}Id")),
                        free: self.get(&format!("gpu{index}Free")),
                        total: self.get(&format!("gpu{index}Total")),
                    }),
                    active: self.flag("active"),
                };
                self.both_ways(capacity, capacity.pack(), Capacity::unpack);
            }
            "resources" => {
                let gpus = self.fields["gpus"];
                let resources = Resources {
                    storage: self.get("storage"),
                    memory: self.get("memory"),
                    cpu: self.get("cpu"),
                    gpu_count: self.get("gpuCount"),
                    gpus: GpuSet::from_ids((0..160).filter(|id| gpus.bit(usize::from(*id)))).unwrap(),
                };
                self.both_ways(resources, resources.pack(), Resources::unpack);
            }
            "requirements" => {
                let requirements = Requirements {
                    mode: if self.flag("mode") { Mode::Fizz } else { Mode::Provider },
                    tiers: TierSet::from_bits(self.get("tiers")).unwrap(),
                    preferred_region: self.get("preferredRegion"),
                    preferred_zone: self.get("preferredZone"),
                    compliance: self.get("compliance"),
                    attributes: self.attributes(),
                    params_version: self.get("paramsVersion"),
                };
                self.both_ways(requirements, requirements.pack(), Requirements::unpack);
            }
            "orderId" => {
                let id = OrderId {
                    account: self.get("account"),
                    token: self.get("token"),
                    nonce: self.get("nonce"),
                };
                self.both_ways(id, id.pack().map(U256::from), |word| Ok(OrderId::unpack(word.to())));
            }
            "header" => {
                let header = MatchHeader {
                    order_id: self.get("orderId"),
                    ranks: self.get("ranks"),
                };
                self.both_ways(header, Ok(header.pack()), MatchHeader::unpack);
            }
            "rank" => {
                let rank = RankedSupplier {
                    provider: self.get("provider"),
                    fizz: self.get("fizz"),
                    rate: self.wide("rate"),
                    gpu_entry: self.get("gpuEntry"),
                };
                self.both_ways(rank, rank.pack(), RankedSupplier::unpack);
            }
            unknown => panic!("no typed word for {unknown}"),
        }
    }

    fn both_ways<T: PartialEq + std::fmt::Debug>(
        &self,
        typed: T,
        packed: Result<U256, WordError>,
        unpack: impl Fn(U256) -> Result<T, WordError>,
    ) {
        assert_eq!(packed, Ok(self.packed), "{typed:?}");
        assert_eq!(unpack(self.packed), Ok(typed));
    }
}

#[test]
fn words_are_packed_as_by_the_reference() {
    let vectors: Vec<Vector> = super::read("words.json");
    assert!(vectors.len() >= 96);
    vectors.iter().for_each(Vector::check);
}
