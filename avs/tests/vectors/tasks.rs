use avs::task::{Chunk, chunks};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    /// (parameters version, order id), in any order.
    orders: Vec<(u16, u64)>,
    /// Of versions 1, 2 and 3.
    chunk_sizes: [u16; 3],
    chunks: Vec<ChunkVector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChunkVector {
    index: u16,
    params_version: u16,
    order_ids: Vec<u64>,
}

#[test]
fn orders_are_grouped_as_by_the_reference() {
    for vector in super::read::<Vec<Vector>>("tasks.json") {
        let size = |version: u16| vector.chunk_sizes.get(usize::from(version) - 1).copied();
        let expected: Vec<Chunk> = vector
            .chunks
            .into_iter()
            .map(
                |ChunkVector {
                     index,
                     params_version,
                     order_ids,
                 }| Chunk {
                    index,
                    params_version,
                    order_ids,
                },
            )
            .collect();
        assert_eq!(chunks(vector.orders, size), Ok(expected));
    }
}
