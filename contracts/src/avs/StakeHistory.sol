// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {EigenRewardsCoordinator, EigenStakeHistory} from "./EigenRewards.sol";

/// @title What EigenLayer's stake registry remembers
/// @notice Reads of stakes at earlier blocks, in time that does not grow with how often somebody changed its stake: the
/// registry's own search walks back one update after the other, so that an operator could make it cost more than a block.
library StakeHistory {
    /// @notice Stakes of an operator as of two blocks, `later` being not before `earlier`.
    function stakesAt(EigenStakeHistory registry, bytes32 operatorId, uint8 quorum, uint256 earlier, uint256 later)
        internal
        view
        returns (uint256 stakeEarlier, uint256 stakeLater)
    {
        uint256 end = registry.getStakeHistoryLength(operatorId, quorum);
        (stakeLater, end) = _lastAt(registry, operatorId, quorum, end, later);
        (stakeEarlier,) = _lastAt(registry, operatorId, quorum, end, earlier);
    }

    /// @notice Total stake of a quorum as of a recent block. The registry keeps one update a block.
    function totalAt(EigenStakeHistory registry, uint8 quorum, uint256 blockNumber) internal view returns (uint256) {
        for (uint256 index = registry.getTotalStakeHistoryLength(quorum); index != 0; --index) {
            EigenStakeHistory.StakeUpdate memory update = registry.getTotalStakeUpdateAtIndex(quorum, index - 1);
            if (update.updateBlockNumber <= blockNumber) return update.stake;
        }
        return 0;
    }

    /// @notice What a quorum counts, in the order EigenLayer's rewards ask for: ascending by address.
    function strategiesOf(EigenStakeHistory registry, uint8 quorum)
        internal
        view
        returns (EigenRewardsCoordinator.StrategyAndMultiplier[] memory sorted)
    {
        uint256 count = registry.strategyParamsLength(quorum);
        sorted = new EigenRewardsCoordinator.StrategyAndMultiplier[](count);
        for (uint256 i = 0; i < count; ++i) {
            EigenStakeHistory.StrategyParams memory added = registry.strategyParamsByIndex(quorum, i);
            uint256 place = i;
            for (; place != 0 && sorted[place - 1].strategy > added.strategy; --place) {
                sorted[place] = sorted[place - 1];
            }
            sorted[place] = EigenRewardsCoordinator.StrategyAndMultiplier(added.strategy, added.multiplier);
        }
    }

    /// @dev The stake by the last update before index `end` that is not after a block, and the index behind that update.
    /// Steps back in doubling strides, because the update is nearly always among the last, then halves.
    function _lastAt(EigenStakeHistory registry, bytes32 operatorId, uint8 quorum, uint256 end, uint256 blockNumber)
        private
        view
        returns (uint256 stake, uint256 behind)
    {
        uint256 low;
        for (uint256 stride = 1;; stride *= 2) {
            if (end == 0) return (0, 0);
            low = end > stride ? end - stride : 0;
            EigenStakeHistory.StakeUpdate memory update = registry.getStakeUpdateAtIndex(quorum, operatorId, low);
            if (update.updateBlockNumber <= blockNumber) {
                stake = update.stake;
                break;
            }
            end = low;
        }
        // The update at `low` counts, that at `end` is too late.
        while (end - low > 1) {
            uint256 middle = (low + end) / 2;
            EigenStakeHistory.StakeUpdate memory update = registry.getStakeUpdateAtIndex(quorum, operatorId, middle);
            if (update.updateBlockNumber <= blockNumber) (low, stake) = (middle, update.stake);
            else end = middle;
        }
        return (stake, end);
    }
}
