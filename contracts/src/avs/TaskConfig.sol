// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @dev Who decides tasks: verifier 160 bits @0 | whether it is capped 1 @160 | zero 7 | block from which it decides 32 @168.
type VerifierWord is uint256;

/// @dev The verifier in force or named last, as {VerifierWord} | count of parameter versions 16 @200 | paused 1 @216.
/// Unpacked by hand: Solidity loads the slot again for every field.
type TaskConfig is uint256;

library VerifierWords {
    uint256 private constant CAPPED = 1 << 160;

    function pack(address verifier, bool capped_, uint32 fromBlock) internal pure returns (VerifierWord) {
        return VerifierWord.wrap(uint160(verifier) | (capped_ ? CAPPED : 0) | (uint256(fromBlock) << 168));
    }

    function account(VerifierWord word) internal pure returns (address) {
        return address(uint160(VerifierWord.unwrap(word)));
    }

    function capped(VerifierWord word) internal pure returns (bool) {
        return VerifierWord.unwrap(word) & CAPPED != 0;
    }

    function from(VerifierWord word) internal pure returns (uint32) {
        return uint32(VerifierWord.unwrap(word) >> 168);
    }
}

library TaskConfigs {
    uint256 private constant PAUSED = 1 << 216;

    function verifier(TaskConfig config) internal pure returns (VerifierWord) {
        return VerifierWord.wrap(TaskConfig.unwrap(config) & ((1 << 200) - 1));
    }

    function parametersCount(TaskConfig config) internal pure returns (uint16) {
        return uint16(TaskConfig.unwrap(config) >> 200);
    }

    function paused(TaskConfig config) internal pure returns (bool) {
        return TaskConfig.unwrap(config) & PAUSED != 0;
    }

    function withVerifier(TaskConfig config, VerifierWord named) internal pure returns (TaskConfig) {
        return TaskConfig.wrap((TaskConfig.unwrap(config) >> 200 << 200) | VerifierWord.unwrap(named));
    }

    function withParametersCount(TaskConfig config, uint16 count) internal pure returns (TaskConfig) {
        return TaskConfig.wrap((TaskConfig.unwrap(config) & ~(uint256(0xffff) << 200)) | (uint256(count) << 200));
    }

    function withPaused(TaskConfig config, bool stopped) internal pure returns (TaskConfig) {
        uint256 word = TaskConfig.unwrap(config);
        return TaskConfig.wrap(stopped ? word | PAUSED : word & ~PAUSED);
    }
}
