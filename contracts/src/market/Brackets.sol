// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IOrderBook} from "./IOrderBook.sol";
import {ResourceWord} from "./Resources.sol";

/// @title How much compute a deposit entitles to
/// @notice The whitepaper (4.6.3) gives one step: 15 dollars entitle to 8 CPUs, 32 GiB of memory and 512 GiB of storage, or to
/// one mid-tier GPU with 32 CPUs, 128 GiB and 1 TiB. Bracket 1 is that step, and every further one is twice the dollars for
/// twice the resources. What counts is one order, not all that an account runs: its lock bounds that already.
/// @dev The escrow sets an account's bracket from a price when money comes in; here is arithmetic alone.
library Brackets {
    /// @notice Dollars that bracket 1 takes.
    uint256 internal constant FIRST_DOLLARS = 15;
    /// @notice Fits whatever an order can ask for; the arithmetic of {needed} ends far below.
    uint256 internal constant HIGHEST = 32;

    // Of bracket 1, in the units of the resource word: 10 milli-CPU, 16 MiB, 256 MiB.
    uint256 private constant CPU = 8 * 100;
    uint256 private constant MEMORY = 32 * 64;
    uint256 private constant STORAGE = 512 * 4;
    uint256 private constant CPU_WITH_GPU = 32 * 100;
    uint256 private constant MEMORY_WITH_GPU = 128 * 64;
    uint256 private constant STORAGE_WITH_GPU = 1_024 * 4;
    /// @dev What a mid-tier GPU is to a top one.
    uint256 private constant TOP_GPU_COUNTS = 4;

    /// @notice Refuses an order that asks for more than the bracket allows.
    /// @param topGpus Bitmap of the GPU ids that count four times; zero if the order asks for none.
    function check(uint256 resources, uint256 bracket, uint256 topGpus) internal pure {
        if (bracket >= HIGHEST || (bracket != 0 && _fits(resources, bracket, topGpus))) return;
        revert IOrderBook.AboveBracket(resources, uint8(bracket), uint8(needed(resources, topGpus)));
    }

    /// @notice Lowest bracket that allows `resources`.
    function needed(uint256 resources, uint256 topGpus) internal pure returns (uint256 bracket) {
        bracket = 1;
        while (!_fits(resources, bracket, topGpus)) ++bracket;
    }

    /// @dev An order that accepts a top GPU may get one. Fields have at most 22 bits, brackets are below {HIGHEST}: nothing
    /// overflows, and from bracket 16 on everything fits.
    function _fits(uint256 resources, uint256 bracket, uint256 topGpus) private pure returns (bool) {
        unchecked {
            uint256 steps = bracket - 1;
            uint256 gpus = ResourceWord.gpuCount(resources);
            if (gpus == 0) {
                return ResourceWord.cpuAsked(resources) <= CPU << steps
                    && ResourceWord.memoryAsked(resources) <= MEMORY << steps
                    && ResourceWord.storageAsked(resources) <= STORAGE << steps;
            }
            if ((resources >> 96) & topGpus != 0) gpus *= TOP_GPU_COUNTS;
            return gpus <= 1 << steps && ResourceWord.cpuAsked(resources) <= CPU_WITH_GPU << steps
                && ResourceWord.memoryAsked(resources) <= MEMORY_WITH_GPU << steps
                && ResourceWord.storageAsked(resources) <= STORAGE_WITH_GPU << steps;
        }
    }
}
