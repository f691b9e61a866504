// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {
    AccessManagedUpgradeable
} from "@openzeppelin/contracts-upgradeable/access/manager/AccessManagedUpgradeable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";

import {PaymentTokens} from "../../src/registry/PaymentTokens.sol";
import {ProviderRegistry} from "../../src/registry/ProviderRegistry.sol";
import {StakeManager} from "../../src/stake/StakeManager.sol";

/// @notice The ERC-7201 namespaces of the upgradeable contracts, and of the library contracts under them, as ordinary variables:
/// the compiler lays those out, and not what is reached through a constant slot. `script/lib/storage-layout` reads it; each
/// variable is named as its struct. Never deployed.
contract Namespaces {
    PaymentTokens.PaymentTokensStorage internal paymentTokensStorage;
    ProviderRegistry.ProviderRegistryStorage internal providerRegistryStorage;
    StakeManager.StakeManagerStorage internal stakeManagerStorage;
    AccessManagedUpgradeable.AccessManagedStorage internal accessManagedStorage;
    Initializable.InitializableStorage internal initializableStorage;
}
