// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IPaymentTokens} from "../registry/IPaymentTokens.sol";
import {Brackets} from "./Brackets.sol";
import {EscrowState} from "./EscrowState.sol";
import {IEscrow} from "./IEscrow.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {ISignatureTransfer} from "./ISignatureTransfer.sol";
import {AccountWord} from "./Resources.sol";

/// @title Money in and out of accounts, and the brackets it entitles to
/// @notice Deposits are the only place where the escrow asks something upgradeable, for brackets and caps. It asks with bounded
/// gas and reads a bounded answer: whatever the answer is, a deposit goes through or is above the cap, and nothing else waits
/// for it.
abstract contract Deposits is EscrowState {
    using SafeERC20 for IERC20;
    using AccountWord for uint256;

    /// @dev Enough for a proxy, its words and a feed of several contracts.
    uint256 private constant ASSESS_GAS = 250_000;
    /// @dev What must be left so that 63/64 of it are ASSESS_GAS: who sends less gas would choose that nothing is assessed.
    uint256 private constant ASSESS_GAS_NEEDED = ASSESS_GAS + ASSESS_GAS / 63 + 5_000;
    /// @dev No usable price, or no usable answer.
    uint256 private constant UNKNOWN_BRACKET = 255;

    /// @inheritdoc IEscrow
    function deposit(uint32 account, uint8 token, uint256 amount) external override nonReentrant {
        _depositAllowed(account, token, amount);
    }

    /// @inheritdoc IEscrow
    function depositWithPermit(
        uint32 account,
        uint8 token,
        uint256 amount,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external override nonReentrant {
        address tokenAddress = _tokenAddress(token, _tokens[token]);
        // Whoever saw the permit could bring it in first; what counts is the allowance, which the transfer checks.
        try IERC20Permit(tokenAddress).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _depositAllowed(account, token, amount);
    }

    /// @inheritdoc IEscrow
    function depositWithPermit2(
        uint32 account,
        uint8 token,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external override nonReentrant {
        (address tokenAddress, uint256 balanceBefore) = _checkDeposit(account, token, amount);
        ISignatureTransfer(permit2)
            .permitTransferFrom(
                ISignatureTransfer.PermitTransferFrom(
                    ISignatureTransfer.TokenPermissions(tokenAddress, amount), nonce, deadline
                ),
                ISignatureTransfer.SignatureTransferDetails(address(this), amount),
                msg.sender,
                signature
            );
        _creditDeposit(account, token, amount, tokenAddress, balanceBefore);
    }

    /// @inheritdoc IEscrow
    function updateBracket(uint32 account, uint8 token) external override returns (uint8 bracket) {
        uint256 key = _accountKey(account, token);
        uint256 word = _accounts[key];
        (uint256 assessed,) = _assess(token, word.unlocked() + word.locked());
        if (assessed == UNKNOWN_BRACKET) revert NoUsablePrice(token);
        if (assessed != word.bracket()) {
            _accounts[key] = word.withBracket(assessed);
            emit BracketChanged(account, token, uint8(assessed));
        }
        return uint8(assessed);
    }

    /// @inheritdoc IEscrow
    function withdraw(uint32 account, uint8 token, uint256 amount, address to) external override {
        // Check
        if (amount == 0) revert ZeroAmount();
        _checkAccountOwner(account, msg.sender);
        uint256 key = _accountKey(account, token);
        uint256 word = _accounts[key];
        if (amount > word.unlocked()) revert InsufficientBalance(account, token, word.unlocked(), amount);

        // Effect
        uint256 bracket = word.bracket();
        uint256 lowered = _loweredBracket(bracket, word.unlocked() + word.locked(), amount);
        _accounts[key] = (word - amount).withBracket(lowered);
        if (lowered != bracket) emit BracketChanged(account, token, uint8(lowered));
        emit Withdrawn(account, token, to, amount);

        // Interaction
        _send(token, _tokens[token], to, amount);
    }

    /// @inheritdoc IEscrow
    function withdrawCredit(uint8 token, address to) external override returns (uint256 amount) {
        amount = _takeCredit(msg.sender, token, to);
        if (amount == 0) revert NothingToWithdraw(msg.sender, token);
        _send(token, _tokens[token], to, amount);
    }

    // ---------------------------------------------------------------- private

    function _depositAllowed(uint32 account, uint8 token, uint256 amount) private {
        (address tokenAddress, uint256 balanceBefore) = _checkDeposit(account, token, amount);
        IERC20(tokenAddress).safeTransferFrom(msg.sender, address(this), amount);
        _creditDeposit(account, token, amount, tokenAddress, balanceBefore);
    }

    function _checkDeposit(uint32 account, uint8 token, uint256 amount)
        private
        view
        returns (address tokenAddress, uint256 balanceBefore)
    {
        if (amount == 0) revert ZeroAmount();
        if (_ownerOf(account) == address(0)) revert UnknownAccount(account);
        tokenAddress = _tokenAddress(token, _tokens[token]);
        balanceBefore = IERC20(tokenAddress).balanceOf(address(this));
    }

    /// @dev What counts is what arrived. The guard keeps other deposits from arriving in between, and a withdrawal in between
    /// leaves too little.
    function _creditDeposit(uint32 account, uint8 token, uint256 amount, address tokenAddress, uint256 balanceBefore)
        private
    {
        // Check
        uint256 balanceAfter = IERC20(tokenAddress).balanceOf(address(this));
        if (balanceAfter < balanceBefore || balanceAfter - balanceBefore != amount) {
            uint256 received = balanceAfter < balanceBefore ? 0 : balanceAfter - balanceBefore;
            revert TransferMismatch(tokenAddress, amount, received);
        }
        uint256 key = _accountKey(account, token);
        uint256 word = _accounts[key];
        // Unlocked and locked together stay below 112 bits, so that neither can overflow into the other.
        uint256 held = word.unlocked() + word.locked();
        if (amount > AccountWord.MAXIMUM_AMOUNT - held) revert BalanceTooLarge(account, token, held, amount);
        (uint256 bracket, uint256 cap) = _assess(token, held + amount);
        if (balanceAfter > cap) revert CapExceeded(token, balanceAfter, cap);

        // Effect
        word += amount;
        emit Deposited(account, token, msg.sender, amount);
        if (bracket != UNKNOWN_BRACKET && bracket > word.bracket()) {
            word = word.withBracket(bracket);
            emit BracketChanged(account, token, uint8(bracket));
        }
        _accounts[key] = word;
    }

    /// @dev {IPaymentTokens-assess}, whatever stands at its address: at most ASSESS_GAS is spent, two words are read. Without an
    /// answer there is no bracket and no cap.
    function _assess(uint8 token, uint256 held) private view returns (uint256 bracket, uint256 cap) {
        address paymentTokens = IOrderBook(orderBook).collaborator(IOrderBook.Collaborator.PaymentTokens);
        bytes memory question = abi.encodeCall(IPaymentTokens.assess, (token, held));
        if (gasleft() < ASSESS_GAS_NEEDED) revert GasTooLow(ASSESS_GAS_NEEDED);
        bool answered;
        assembly ("memory-safe") {
            answered := staticcall(ASSESS_GAS, paymentTokens, add(question, 0x20), mload(question), 0x00, 0x40)
            answered := and(answered, gt(returndatasize(), 0x3f))
            bracket := mload(0x00)
            cap := mload(0x20)
        }
        if (!answered) return (UNKNOWN_BRACKET, type(uint256).max);
        if (bracket > Brackets.HIGHEST) bracket = UNKNOWN_BRACKET;
    }

    /// @dev One step down for every time that the holding halves, rounded up.
    function _loweredBracket(uint256 bracket, uint256 held, uint256 amount) private pure returns (uint256) {
        // Amounts have 112 bits, brackets end at 32.
        unchecked {
            uint256 left = held - amount;
            while (bracket != 0 && left < held) {
                (bracket, left) = (bracket - 1, left << 1);
            }
            return bracket;
        }
    }
}
