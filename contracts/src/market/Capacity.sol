// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ResourceWord} from "./Resources.sol";

/// @title What a supplier offers and what of it is free
/// @notice Capacity word, rounded down: storage free 22 at 0, total 22 at 22 | memory free 20 at 44, total 20 at 64 | cpu free
/// 20 at 84, total 20 at 104 | four GPU entries 32 at 124 (free 12 at 0, total 12 at 12, GPU id 8 at 24) | active 1 at 252.
/// Stored words carry three more bits that no one outside sees: a decrease is pending at 253, suspended at 254, of the rebated
/// fee class at 255. Used = total - free throughout.
library Capacity {
    uint256 internal constant ACTIVE = 1 << 252;
    uint256 internal constant PENDING = 1 << 253;
    uint256 internal constant SUSPENDED = 1 << 254;
    uint256 internal constant REBATED = 1 << 255;

    /// @notice What agents see of an active supplier's word.
    uint256 internal constant VISIBLE = (1 << 253) - 1;
    uint256 private constant HIGHEST_GPU_ID = 159;
    // The free halves of all pairs.
    uint256 private constant FREE = 0x3fffff | (0xfffff << 44) | (0xfffff << 84) | (0xfff << 124) | (0xfff << 156)
        | (0xfff << 188) | (0xfff << 220);

    // One bit above the free storage, memory and CPU.
    uint256 private constant GUARDS = (1 << 22) | (1 << 64) | (1 << 104);

    // ------------------------------------------------------------------ views

    /// @notice The word as bids carry it and views show it: a suspended supplier is inactive.
    function visible(uint256 word) internal pure returns (uint256) {
        return (word & SUSPENDED == 0 ? word : word & ~ACTIVE) & VISIBLE;
    }

    function isActive(uint256 word) internal pure returns (bool) {
        return word & (ACTIVE | SUSPENDED) == ACTIVE;
    }

    /// @notice The word without its free parts: what a supplier wishes to offer.
    function totals(uint256 word) internal pure returns (uint256) {
        return word & VISIBLE & ~FREE;
    }

    /// @notice A wish that can be kept: every GPU entry is empty or names a GPU with a count.
    function isValidWish(uint256 wish) internal pure returns (bool) {
        if (wish & ~VISIBLE != 0) return false;
        for (uint256 entry = 0; entry < 4; ++entry) {
            uint256 gpu = wish >> (124 + 32 * entry);
            uint256 id = uint8(gpu >> 24);
            if ((id == 0) != ((gpu >> 12) & 0xfff == 0) || id > HIGHEST_GPU_ID) return false;
        }
        return true;
    }

    /// @notice Whether any lease lives: every order asks for CPU, and used = total - free.
    function isUsed(uint256 word) internal pure returns (bool) {
        return (word >> 84) & 0xfffff != (word >> 104) & 0xfffff;
    }

    // --------------------------------------------------------- leases

    /// @notice Takes `resources` out of what is free, GPUs out of the entry named, if all of it fits.
    /// @dev A guard bit above every free field, where its total begins, survives the subtraction only if nothing was borrowed.
    function reserve(uint256 word, uint256 resources, uint256 gpuEntry)
        internal
        pure
        returns (bool fits, uint256 reserved)
    {
        unchecked {
            uint256 asked = _freePart(resources, gpuEntry);
            uint256 guards = GUARDS;
            if (ResourceWord.gpuCount(resources) != 0) {
                uint256 offset = 124 + 32 * gpuEntry;
                if (!ResourceWord.acceptsGpu(resources, uint8(word >> (offset + 24)))) return (false, word);
                guards |= 1 << (offset + 12);
            }
            // Fields that are not asked for subtract nothing.
            fits = ((word & FREE | guards) - asked) & guards == guards;
            return (fits, word - asked);
        }
    }

    /// @dev Only what was reserved is released, and a total never falls below what is used: no field can overflow.
    function release(uint256 word, uint256 resources, uint256 gpuEntry) internal pure returns (uint256) {
        unchecked {
            return word + _freePart(resources, gpuEntry);
        }
    }

    /// @dev The resource word has storage, memory and CPU side by side from the lowest bit, and the count of GPUs.
    function _freePart(uint256 resources, uint256 gpuEntry) private pure returns (uint256) {
        unchecked {
            return (resources & 0x3fffff) | ((resources & (0xfffff << 22)) << 22)
                | ((resources & (0xfffff << 42)) << 42) | (((resources >> 62) & 0xfff) << (124 + 32 * gpuEntry));
        }
    }

    // --------------------------------------------------------- changes

    /// @notice Applies what grows in `wish` at once; a GPU entry that is empty takes the wish's model.
    function raise(uint256 word, uint256 wish) internal pure returns (uint256) {
        word = _raisePair(word, wish, 0, 22);
        word = _raisePair(word, wish, 44, 20);
        word = _raisePair(word, wish, 84, 20);
        for (uint256 offset = 124; offset < 252; offset += 32) {
            if ((word >> (offset + 12)) & 0xfff == 0) {
                word = _replaceEntry(word, wish, offset);
            } else if (uint8(word >> (offset + 24)) == uint8(wish >> (offset + 24))) {
                word = _raisePair(word, wish, offset, 12);
            }
        }
        return word | (wish & ACTIVE);
    }

    /// @notice Applies the whole of `wish`, as far as leases leave room: a total stays at what is used until leases end, a
    /// GPU entry keeps its model until none of it is used.
    function lower(uint256 word, uint256 wish) internal pure returns (uint256) {
        word = _setPair(word, wish, 0, 22);
        word = _setPair(word, wish, 44, 20);
        word = _setPair(word, wish, 84, 20);
        for (uint256 offset = 124; offset < 252; offset += 32) {
            if (uint8(word >> (offset + 24)) == uint8(wish >> (offset + 24))) {
                word = _setPair(word, wish, offset, 12);
            } else if ((word >> offset) & 0xfff == (word >> (offset + 12)) & 0xfff) {
                word = _replaceEntry(word, wish, offset);
            } else {
                word = _setPair(word, 0, offset, 12);
            }
        }
        return (word & ~ACTIVE) | (wish & ACTIVE);
    }

    /// @notice What can be relied on while the change to `wish` is pending: the smaller of both. A GPU entry whose model changes
    /// promises neither.
    function promised(uint256 word, uint256 wish) internal pure returns (uint256 smaller) {
        smaller = lower(word, wish);
        for (uint256 offset = 124; offset < 252; offset += 32) {
            if (uint8(word >> (offset + 24)) != uint8(smaller >> (offset + 24))) {
                smaller &= ~(uint256(type(uint32).max) << offset);
            }
        }
    }

    function _raisePair(uint256 word, uint256 wish, uint256 offset, uint256 width) private pure returns (uint256) {
        unchecked {
            uint256 mask = (1 << width) - 1;
            uint256 total = (word >> (offset + width)) & mask;
            uint256 wished = (wish >> (offset + width)) & mask;
            if (wished <= total) return word;
            // Free is at most total, so both fields have room.
            uint256 growth = wished - total;
            return word + (growth << offset) + (growth << (offset + width));
        }
    }

    function _setPair(uint256 word, uint256 wish, uint256 offset, uint256 width) private pure returns (uint256) {
        unchecked {
            uint256 mask = (1 << width) - 1;
            // Free is at most total.
            uint256 used = ((word >> (offset + width)) & mask) - ((word >> offset) & mask);
            uint256 total = (wish >> (offset + width)) & mask;
            if (total < used) total = used;
            uint256 both = (mask << offset) | (mask << (offset + width));
            return (word & ~both) | ((total - used) << offset) | (total << (offset + width));
        }
    }

    /// @dev The wish's entry with all of it free.
    function _replaceEntry(uint256 word, uint256 wish, uint256 offset) private pure returns (uint256) {
        uint256 entry = uint32(wish >> offset) & 0xfffff000;
        entry |= (entry >> 12) & 0xfff;
        return (word & ~(uint256(type(uint32).max) << offset)) | (entry << offset);
    }
}
