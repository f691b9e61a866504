use super::SCORE_MAXIMUM;

/// The most that luck may weigh: whoever proposes the close block can grind its hash.
pub const RANDOMNESS_WEIGHT_MAXIMUM: u32 = 50_000;
/// The most suppliers an answer may rank.
pub const RANK_LIMIT_MAXIMUM: u8 = 8;
const STAKE_CAP_MAXIMUM: u64 = (1 << 48) - 1;

/// Weights and limits of one version of the rule, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parameters {
    weights: [u32; 8],
    stake_cap: u64,
    rank_limit: u8,
    chunk_size: u16,
}

/// Parameters that the task manager does not accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParametersError {
    #[error("the weights sum to {sum}, they must sum to 1000000")]
    WeightSum { sum: u64 },
    #[error("randomness weighs {weight}, allowed is at most {RANDOMNESS_WEIGHT_MAXIMUM}")]
    RandomnessWeight { weight: u32 },
    #[error("the stake cap is {cap}, allowed is 1 to 2^48 - 1 whole tokens")]
    StakeCap { cap: u64 },
    #[error("the rank limit is {limit}, allowed is 1 to {RANK_LIMIT_MAXIMUM}")]
    RankLimit { limit: u8 },
    #[error("the chunk size is 0, a chunk must hold at least one order")]
    ChunkSize,
}

impl Parameters {
    /// `weights`: price, region, feedback, availability, slashes, trust tier, stake, randomness. `stake_cap`: whole tokens
    /// that already score full. `rank_limit`: K. `chunk_size`: orders per task.
    ///
    /// # Errors
    /// When the rule would not be well defined or luck would weigh too much.
    pub fn new(weights: [u32; 8], stake_cap: u64, rank_limit: u8, chunk_size: u16) -> Result<Self, ParametersError> {
        let sum = weights.iter().map(|weight| u64::from(*weight)).sum();
        if sum != u64::from(SCORE_MAXIMUM) {
            return Err(ParametersError::WeightSum { sum });
        }
        if weights[7] > RANDOMNESS_WEIGHT_MAXIMUM {
            return Err(ParametersError::RandomnessWeight { weight: weights[7] });
        }
        if stake_cap == 0 || stake_cap > STAKE_CAP_MAXIMUM {
            return Err(ParametersError::StakeCap { cap: stake_cap });
        }
        if rank_limit == 0 || rank_limit > RANK_LIMIT_MAXIMUM {
            return Err(ParametersError::RankLimit { limit: rank_limit });
        }
        if chunk_size == 0 {
            return Err(ParametersError::ChunkSize);
        }
        Ok(Self {
            weights,
            stake_cap,
            rank_limit,
            chunk_size,
        })
    }

    /// Price, region, feedback, availability, slashes, trust tier, stake, randomness; they sum to 1 000 000.
    #[inline]
    pub fn weights(&self) -> &[u32; 8] {
        &self.weights
    }

    /// Stake in whole tokens that already scores full.
    pub fn stake_cap(&self) -> u64 {
        self.stake_cap
    }

    /// K: how many suppliers an answer ranks.
    pub fn rank_limit(&self) -> u8 {
        self.rank_limit
    }

    /// Orders per task.
    pub fn chunk_size(&self) -> u16 {
        self.chunk_size
    }
}

impl Default for Parameters {
    /// Version 1 as deployed.
    fn default() -> Self {
        Self {
            weights: [400_000, 100_000, 100_000, 100_000, 100_000, 100_000, 50_000, 50_000],
            stake_cap: 1_000_000,
            rank_limit: 5,
            chunk_size: 64,
        }
    }
}
