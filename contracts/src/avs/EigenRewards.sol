// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev What {CommissionSplit} calls of EigenLayer 1.3.1, declared from its published ABI.
interface EigenRewardsCoordinator {
    struct OperatorSet {
        address avs;
        uint32 id;
    }

    struct StrategyAndMultiplier {
        address strategy;
        uint96 multiplier;
    }

    struct OperatorReward {
        address operator;
        uint256 amount;
    }

    struct OperatorDirectedRewardsSubmission {
        StrategyAndMultiplier[] strategiesAndMultipliers;
        address token;
        OperatorReward[] operatorRewards;
        uint32 startTimestamp;
        uint32 duration;
        string description;
    }

    /// @dev The one for operator sets: what EigenLayer distributes by its other function goes only to operators that
    /// registered in its old directory, which those of operator sets never do.
    function createOperatorDirectedOperatorSetRewardsSubmission(
        OperatorSet calldata operatorSet,
        OperatorDirectedRewardsSubmission[] calldata submissions
    ) external;
    function CALCULATION_INTERVAL_SECONDS() external view returns (uint32);
    function MAX_REWARDS_DURATION() external view returns (uint32);
    function MAX_RETROACTIVE_LENGTH() external view returns (uint32);
}

interface EigenStakeHistory {
    struct StakeUpdate {
        uint32 updateBlockNumber;
        uint32 nextUpdateBlockNumber;
        uint96 stake;
    }

    struct StrategyParams {
        address strategy;
        uint96 multiplier;
    }

    function getStakeHistoryLength(bytes32 operatorId, uint8 quorumNumber) external view returns (uint256);
    function getStakeUpdateAtIndex(uint8 quorumNumber, bytes32 operatorId, uint256 index)
        external
        view
        returns (StakeUpdate memory);
    function getTotalStakeHistoryLength(uint8 quorumNumber) external view returns (uint256);
    function getTotalStakeUpdateAtIndex(uint8 quorumNumber, uint256 index) external view returns (StakeUpdate memory);
    function strategyParamsLength(uint8 quorumNumber) external view returns (uint256);
    function strategyParamsByIndex(uint8 quorumNumber, uint256 index) external view returns (StrategyParams memory);
}

interface EigenOperatorKeys {
    function operatorToPubkeyHash(address operator) external view returns (bytes32 operatorId);
}
