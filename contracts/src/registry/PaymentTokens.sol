// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {
    AccessManagedUpgradeable
} from "@openzeppelin/contracts-upgradeable/access/manager/AccessManagedUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";

import {IEscrow} from "../market/IEscrow.sol";
import {IPaymentTokens} from "./IPaymentTokens.sol";

/// @title PaymentTokens
contract PaymentTokens is IPaymentTokens, AccessManagedUpgradeable, UUPSUpgradeable {
    /// @dev Score cards number tokens with 32 bits.
    uint8 private constant MAXIMUM_TOKENS = 32;
    /// @dev Rates keep their precision up to here (whitepaper tokens have 6 to 18).
    uint8 private constant MAXIMUM_DECIMALS = 18;

    IEscrow private immutable _escrow;

    /// @custom:storage-location erc7201:spheron.storage.PaymentTokens
    struct PaymentTokensStorage {
        uint8 count;
        mapping(uint8 id => PaymentToken) tokens;
        /// Id plus one, so that zero means not listed.
        mapping(address token => uint16) listed;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("spheron.storage.PaymentTokens")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant STORAGE_LOCATION = 0x4ece5b06d1308a6e19860acf4544f59f683ab105e5f3b3e62c128cbe0df93100;

    function _storage() private pure returns (PaymentTokensStorage storage $) {
        assembly ("memory-safe") {
            $.slot := STORAGE_LOCATION
        }
    }

    /// @custom:oz-upgrades-unsafe-allow constructor state-variable-immutable
    constructor(IEscrow escrow) {
        _escrow = escrow;
        _disableInitializers();
    }

    function initialize(address authority) external initializer {
        __AccessManaged_init(authority);
    }

    /// @dev The access manager decides who may upgrade, and after which delay.
    function _authorizeUpgrade(address) internal override restricted {}

    /// @inheritdoc IPaymentTokens
    function list(address tokenAddress, string calldata symbol, uint16 feeSchedule)
        external
        override
        restricted
        returns (uint8 id)
    {
        PaymentTokensStorage storage $ = _storage();
        // Check
        require($.count < MAXIMUM_TOKENS, TokenListFull(MAXIMUM_TOKENS));
        uint16 listed = $.listed[tokenAddress];
        if (listed != 0) revert TokenListedAlready(tokenAddress, uint8(listed - 1));
        require(_isSymbol(symbol), InvalidSymbol(symbol));
        uint8 decimals = _decimalsOf(tokenAddress);

        // Effect
        id = $.count++;
        $.listed[tokenAddress] = uint16(id) + 1;
        $.tokens[id] = PaymentToken(id, tokenAddress, symbol, decimals, true, feeSchedule);
        emit TokenListed(id, tokenAddress, symbol, decimals, feeSchedule);

        // Interaction
        _push($.tokens[id]);
    }

    /// @inheritdoc IPaymentTokens
    function setEnabled(uint8 id, bool enabled) external override restricted {
        PaymentToken storage listed = _known(id);
        listed.enabled = enabled;
        emit TokenEnabled(id, enabled);
        _push(listed);
    }

    /// @inheritdoc IPaymentTokens
    function setFeeSchedule(uint8 id, uint16 feeSchedule) external override restricted {
        PaymentToken storage listed = _known(id);
        listed.feeSchedule = feeSchedule;
        emit TokenFeeScheduleChanged(id, feeSchedule);
        _push(listed);
    }

    /// @inheritdoc IPaymentTokens
    function token(uint8 id) external view override returns (PaymentToken memory) {
        return _known(id);
    }

    /// @inheritdoc IPaymentTokens
    function tokenCount() external view override returns (uint8) {
        return _storage().count;
    }

    function _known(uint8 id) private view returns (PaymentToken storage listed) {
        listed = _storage().tokens[id];
        require(listed.token != address(0), UnknownTokenId(id));
    }

    /// @dev The core keeps its own copy, so that it calls nothing upgradeable.
    function _push(PaymentToken storage listed) private {
        _escrow.setToken(listed.id, listed.token, listed.enabled, listed.feeSchedule);
    }

    function _decimalsOf(address tokenAddress) private view returns (uint8 decimals) {
        require(tokenAddress.code.length != 0, UnsuitableToken(tokenAddress));
        try IERC20Metadata(tokenAddress).decimals() returns (uint8 answer) {
            decimals = answer;
        } catch {
            revert UnsuitableToken(tokenAddress);
        }
        require(decimals <= MAXIMUM_DECIMALS, UnsuitableToken(tokenAddress));
    }

    function _isSymbol(string calldata symbol) private pure returns (bool) {
        bytes calldata text = bytes(symbol);
        if (text.length == 0 || text.length > 11) return false;
        for (uint256 index = 0; index < text.length; ++index) {
            bytes1 letter = text[index];
            bool digit = letter >= "0" && letter <= "9";
            bool upper = letter >= "A" && letter <= "Z";
            bool lower = letter >= "a" && letter <= "z";
            if (!digit && !upper && !lower) return false;
        }
        return true;
    }
}
