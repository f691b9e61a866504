// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

// Library contracts that are deployed as they are: named here so that their bytecode is built with ours.
// forge-lint: disable-next-line(unused-import)
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
// forge-lint: disable-next-line(unused-import)
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
