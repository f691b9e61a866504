use alloy_primitives::B256;
use avs::draw::{self, Draws};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    streams: Vec<Stream>,
    mapping: Vec<Mapping>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stream {
    chain_id: u64,
    order_id: u64,
    close_block_hash: B256,
    seed: B256,
    draws: Vec<u32>,
}

#[derive(Deserialize)]
struct Mapping {
    word: u64,
    draw: Option<u32>,
}

#[test]
fn draws_are_the_reference_stream() {
    let vectors: Vectors = super::read("draws.json");
    for stream in vectors.streams {
        let seed = draw::seed(stream.chain_id, stream.order_id, stream.close_block_hash);
        assert_eq!(seed, stream.seed);
        let mut draws = Draws::new(seed);
        let drawn: Vec<u32> = stream.draws.iter().map(|_| draws.next_draw()).collect();
        assert_eq!(drawn, stream.draws);
    }
}

#[test]
fn stream_words_map_and_are_rejected_as_by_the_reference() {
    let vectors: Vectors = super::read("draws.json");
    assert!(vectors.mapping.iter().any(|mapping| mapping.draw.is_none()));
    for Mapping { word, draw } in vectors.mapping {
        assert_eq!(draw::map(word), draw, "{word}");
    }
}
