// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IERC721Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IEscrow} from "../../src/market/IEscrow.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {FeeSchedule, LeaseResources, OrderState, OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice Accounts, money out, fees, tokens that are taken off the list, and who may do what. Deposits, spending rights, brackets
/// and hostile tokens have tests of their own.
contract EscrowTest is MarketTest {
    uint256 private constant UNLOCKED = 1_000_000e18;

    // ---------------------------------------------------------------- accounts

    function test_open_countsUp() public {
        vm.expectEmit(address(escrow));
        emit IEscrow.AccountOpened(2, responder);
        assertEq(escrow.open(responder), 2, "account");
        assertEq(escrow.ownerOf(2), responder, "owner");
        assertEq(escrow.accountCount(), 2, "count");
        assertEq(escrow.open(responder), 3, "one wallet opens many");
    }

    function test_open_forNobody() public {
        vm.expectRevert(abi.encodeWithSelector(IERC721Errors.ERC721InvalidReceiver.selector, address(0)));
        escrow.open(address(0));
    }

    /// @dev Accounts of one wallet have nothing in common but their owner.
    function test_accounts_areApart() public {
        uint32 other = escrow.open(user);
        _deposit(other, PLAIN_TOKEN, 50e18);
        OrderTerms memory terms = _terms();
        vm.prank(user);
        uint64 orderId = book.createOrder(other, PLAIN_TOKEN, 0, terms);
        assertEq(orderId, (uint64(other) << 32) | (uint64(PLAIN_TOKEN) << 24) | 1, "its own nonce");
        uint256 lock = escrow.lockFor(terms.maximumRate, terms.duration, PLAIN_SCHEDULE);
        assertBalances(other, PLAIN_TOKEN, 50e18 - lock, lock);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED, 0);
        vm.prank(user);
        vm.expectRevert(
            abi.encodeWithSelector(
                IEscrow.InsufficientBalance.selector, other, PLAIN_TOKEN, 50e18 - lock, 50e18 - lock + 1
            )
        );
        escrow.withdraw(other, PLAIN_TOKEN, 50e18 - lock + 1, user);
    }

    function test_open_stopsAtTheLastId() public {
        // Foundation and account count share a slot.
        bytes32 slot = bytes32(uint256(7));
        vm.store(address(escrow), slot, bytes32((uint256(type(uint32).max) << 160) | uint160(foundation)));
        assertEq(escrow.accountCount(), type(uint32).max, "slot of the count");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.AccountsExhausted.selector, type(uint32).max));
        escrow.open(user);
    }

    function test_withdraw_byTheOwner() public {
        address purse = makeAddress("purse");
        vm.expectEmit(address(escrow));
        emit IEscrow.Withdrawn(account, PLAIN_TOKEN, purse, 3e18);
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, 3e18, purse);
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - 3e18, 0);
        assertEq(plain.balanceOf(purse), 3e18, "received");
    }

    function test_withdraw_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, address(this), user));
        escrow.withdraw(account, PLAIN_TOKEN, 1, address(this));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, 99, address(this), address(0)));
        escrow.withdraw(99, PLAIN_TOKEN, 1, address(this));
        _createOrder();
        (uint256 unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
        vm.startPrank(user);
        vm.expectRevert(IEscrow.ZeroAmount.selector);
        escrow.withdraw(account, PLAIN_TOKEN, 0, user);
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, account, PLAIN_TOKEN, unlocked, unlocked + 1)
        );
        escrow.withdraw(account, PLAIN_TOKEN, unlocked + 1, user);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InvalidRecipient.selector, address(0)));
        escrow.withdraw(account, PLAIN_TOKEN, 1, address(0));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InvalidRecipient.selector, address(escrow)));
        escrow.withdraw(account, PLAIN_TOKEN, 1, address(escrow));
        escrow.withdraw(account, PLAIN_TOKEN, unlocked, user);
        vm.stopPrank();
    }

    function test_withdrawCredit_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingToWithdraw.selector, address(this), PLAIN_TOKEN));
        escrow.withdrawCredit(PLAIN_TOKEN, address(this));
    }

    function test_withdrawCredit_paysOnce() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        vm.warp(block.timestamp + 1_000);
        book.settle(_ids(orderId));
        uint256 credit = escrow.creditOf(owner, PLAIN_TOKEN);
        vm.expectEmit(address(escrow));
        emit IEscrow.CreditWithdrawn(owner, PLAIN_TOKEN, owner, credit);
        vm.prank(owner);
        assertEq(escrow.withdrawCredit(PLAIN_TOKEN, owner), credit, "withdrawn");
        assertEq(plain.balanceOf(owner), credit, "received");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingToWithdraw.selector, owner, PLAIN_TOKEN));
        vm.prank(owner);
        escrow.withdrawCredit(PLAIN_TOKEN, owner);
    }

    function test_nonces_run_out() public {
        uint64 orderId = _createOrder();
        bytes32 slot = keccak256(abi.encode((uint256(account) << 8) | PLAIN_TOKEN, uint256(10)));
        uint256 word = uint256(vm.load(address(escrow), slot));
        assertEq((word >> 224) & 0xffffff, uint24(orderId), "slot of the account word");
        vm.store(address(escrow), slot, bytes32(word | (uint256(0xffffff) << 224)));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NoncesExhausted.selector, account, PLAIN_TOKEN));
        _createOrder();
    }

    // -------------------------------------------------------------- delisting

    /// @dev E12: paused or delisted, a token takes no new orders; whatever is there goes on and comes out.
    function test_delisting_blocksNewOrdersOnly() public {
        (address owner, uint32 provider) = _addProvider("provider");
        for (uint256 round = 0; round < 2; ++round) {
            uint256 state = vm.snapshotState();
            uint64 orderId = _lease(owner, provider, 90e18);
            uint64 openId = _createOrder();
            uint64 matchedId = _createOrder();
            vm.prank(user);
            leases.proposeUpdate(orderId, _terms(), uint40(block.timestamp + 1 days));
            if (round == 0) tokens.pauseToken(PLAIN_TOKEN);
            else tokens.setStatus(PLAIN_TOKEN, IPaymentTokens.Status.Delisted);

            _newOrdersAreRefused();
            _everythingElseGoesOn(owner, provider, orderId, openId, matchedId);
            tokens.setStatus(PLAIN_TOKEN, IPaymentTokens.Status.Enabled);
            _createOrder();
            vm.revertToState(state);
        }
    }

    function _newOrdersAreRefused() private {
        bytes memory refused = abi.encodeWithSelector(IEscrow.TokenNotEnabled.selector, PLAIN_TOKEN);
        OrderTerms memory terms = _terms();
        vm.expectRevert(refused);
        vm.prank(user);
        book.createOrder(account, PLAIN_TOKEN, 0, terms);
    }

    function _everythingElseGoesOn(address owner, uint32 provider, uint64 orderId, uint64 openId, uint64 matchedId)
        private
    {
        _deposit(account, PLAIN_TOKEN, 5e18);
        vm.startPrank(user);
        book.cancelOrder(openId);
        leases.extendLease(orderId, 60);
        escrow.withdraw(account, PLAIN_TOKEN, 5e18, user);
        vm.stopPrank();
        uint256 closeBlock = book.order(matchedId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(matchedId, _terms(), _rank(provider, 80e18)));
        assertState(matchedId, OrderState.Leased);
        vm.warp(block.timestamp + 1_000);
        book.settle(_ids(orderId));
        vm.warp(block.timestamp + 60);
        vm.prank(owner);
        book.settleAndWithdraw(_ids(orderId), owner);
        _close(user, orderId, OrderState.ClosedByUser);
        vm.prank(foundation);
        escrow.withdrawCredit(PLAIN_TOKEN, foundation);
    }

    // -------------------------------------------------------------- governance

    function test_addFeeSchedule_addsAPair() public {
        FeeSchedule memory schedule = FeeSchedule(1_500, 500, 500, 5_000, 7e15);
        FeeSchedule memory rebated = FeeSchedule(1_250, 500, 500, 5_000, 7e15);
        vm.expectEmit(address(escrow));
        emit IEscrow.FeeScheduleAdded(6, schedule);
        vm.expectEmit(address(escrow));
        emit IEscrow.FeeScheduleAdded(7, rebated);
        assertEq(escrow.addFeeSchedule(schedule, 1_250), 6, "id");
        assertEq(keccak256(abi.encode(escrow.feeSchedule(6))), keccak256(abi.encode(schedule)), "for everyone");
        assertEq(keccak256(abi.encode(escrow.feeSchedule(7))), keccak256(abi.encode(rebated)), "rebated");
        assertEq(escrow.feeScheduleCount(), 3, "pairs");
        assertEq(escrow.lockFor(1e18, 3_600, 6), escrow.lockFor(1e18, 3_600, 7), "a class locks no less");
        uint16[3] memory unknown = [uint16(0), 1, 8];
        for (uint256 index = 0; index < unknown.length; ++index) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownFeeSchedule.selector, unknown[index]));
            escrow.feeSchedule(unknown[index]);
            vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownFeeSchedule.selector, unknown[index]));
            escrow.lockFor(1, 1, unknown[index]);
        }
    }

    /// @dev E7: 25 % together, 50 % for the gateway, and a rebate that is one.
    function test_addFeeSchedule_caps() public {
        escrow.addFeeSchedule(FeeSchedule(2_000, 300, 200, 5_000, 0), 2_000);
        escrow.addFeeSchedule(FeeSchedule(2_500, 0, 0, 0, 0), 0);
        escrow.addFeeSchedule(FeeSchedule(0, 2_500, 0, 0, 0), 0);
        FeeSchedule[5] memory tooHigh = [
            FeeSchedule(2_501, 0, 0, 0, 0),
            FeeSchedule(0, 2_501, 0, 0, 0),
            FeeSchedule(0, 0, 2_501, 0, 0),
            FeeSchedule(2_000, 300, 201, 0, 0),
            FeeSchedule(type(uint16).max, type(uint16).max, type(uint16).max, 0, 0)
        ];
        for (uint256 index = 0; index < tooHigh.length; ++index) {
            uint256 total = uint256(tooHigh[index].commission) + tooHigh[index].userFee + tooHigh[index].providerFee;
            vm.expectRevert(abi.encodeWithSelector(IEscrow.FeesTooHigh.selector, total, 2_500));
            escrow.addFeeSchedule(tooHigh[index], 0);
        }
        vm.expectRevert(abi.encodeWithSelector(IEscrow.GatewayShareTooHigh.selector, 5_001, 5_000));
        escrow.addFeeSchedule(FeeSchedule(0, 0, 0, 5_001, 0), 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.RebateIsNegative.selector, 2_000, 2_001));
        escrow.addFeeSchedule(FeeSchedule(2_000, 0, 0, 0, 0), 2_001);
        assertEq(escrow.feeScheduleCount(), 5, "those within the caps");
    }

    /// @dev What is kept is exact or refused: 20 bits and a power of ten, which is every fee of six digits.
    function test_addFeeSchedule_matchFees() public {
        uint96[7] memory exact = [0, 1, 1_048_575, 10_485_750, 0.123456e18, 0.01e18, uint96(1_048_575) * 10 ** 22];
        for (uint256 index = 0; index < exact.length; ++index) {
            uint16 id = escrow.addFeeSchedule(FeeSchedule(0, 0, 0, 0, exact[index]), 0);
            assertEq(escrow.feeSchedule(id).matchFee, exact[index], "kept");
            assertEq(escrow.lockFor(0, 0, id), exact[index], "locked");
        }
        uint96[4] memory tooPrecise = [1_048_577, 10_485_751, 0.1234567e18, type(uint96).max];
        for (uint256 index = 0; index < tooPrecise.length; ++index) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.MatchFeeTooPrecise.selector, tooPrecise[index]));
            escrow.addFeeSchedule(FeeSchedule(0, 0, 0, 0, tooPrecise[index]), 0);
        }
    }

    function test_addFeeSchedule_stopsAtTheLastPair() public {
        uint16 last = 0;
        for (uint256 pair = 3; pair <= 255; ++pair) {
            last = escrow.addFeeSchedule(FeeSchedule(0, 0, 0, 0, 0), 0);
        }
        assertEq(last, 510, "last id");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FeeSchedulesExhausted.selector, 255));
        escrow.addFeeSchedule(FeeSchedule(0, 0, 0, 0, 0), 0);
        escrow.feeSchedule(511);
    }

    // -------------------------------------------------------------------- fees

    /// @dev 20 % to the foundation, 2 % from each side on tokens other than SPON; nothing of the 2 % on SPON.
    function test_fees_ofBothTokens() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint256 gross = 9e18;
        _fullLease(PLAIN_TOKEN, provider);
        assertEq(escrow.creditOf(owner, PLAIN_TOKEN), gross * 78 / 100, "provider");
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), gross * 24 / 100, "foundation");
        assertEq(escrow.creditOf(responder, PLAIN_TOKEN), MATCH_FEE, "responder");
        assertBalances(account, PLAIN_TOKEN, UNLOCKED - gross * 102 / 100 - MATCH_FEE, 0);
        _fullLease(SPON_TOKEN, provider);
        assertEq(escrow.creditOf(owner, SPON_TOKEN), gross * 80 / 100, "provider in SPON");
        assertEq(escrow.creditOf(foundation, SPON_TOKEN), gross * 20 / 100, "foundation in SPON");
        assertBalances(account, SPON_TOKEN, UNLOCKED - gross - MATCH_FEE, 0);
    }

    /// @dev Tier 1 pays the rebated commission, from the match on and whatever the token's schedule is later.
    function test_fees_ofTheRebatedClass() public {
        (address owner, uint32 provider) = _addProvider("provider");
        registry.setVerified(provider, 1, type(uint16).max, 0);
        uint256 gross = 9e18;
        for (uint256 round = 1; round <= 2; ++round) {
            uint64 orderId = _lease(owner, provider, 90e18);
            assertEq(book.order(orderId).feeSchedule, PLAIN_SCHEDULE + 1, "schedule");
            (uint256 word,,) = book.orderRecord(orderId);
            if (round == 2) tokens.setFeeSchedule(PLAIN_TOKEN, SPON_SCHEDULE);
            (uint256 net,) = escrow.netOf(orderId, word, 3_600, false);
            assertEq(net, gross * 83 / 100, "15 % and 2 % taken");
            assertEq(escrow.feesOf(orderId, word, 3_600), gross * 19 / 100, "15 %, 2 % and 2 %");
            vm.warp(block.timestamp + 3_600 + GRACE_WINDOW);
            _close(user, orderId, OrderState.ClosedAtEnd);
            assertEq(escrow.creditOf(owner, PLAIN_TOKEN), round * net, "provider");
            assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), round * gross * 19 / 100, "foundation");
        }
    }

    /// @dev Fees are frozen in the order: a new schedule of the token is the new orders'.
    function test_fees_areFrozen() public {
        (address owner, uint32 provider) = _addProvider("provider");
        uint64 orderId = _lease(owner, provider, 90e18);
        uint16 dearer = escrow.addFeeSchedule(FeeSchedule(500, 1_000, 1_000, 0, 5e18), 0);
        tokens.setFeeSchedule(PLAIN_TOKEN, dearer);
        uint64 newer = _createOrder();
        assertEq(book.order(newer).feeSchedule, dearer, "of a new order");
        vm.prank(user);
        book.cancelOrder(newer);
        vm.warp(block.timestamp + 1_800);
        book.settle(_ids(orderId));
        assertEq(escrow.creditOf(owner, PLAIN_TOKEN), uint256(4.5e18) * 78 / 100, "settled at the old one");
        vm.warp(block.timestamp + 1_800 + GRACE_WINDOW);
        vm.prank(user);
        leases.closeLease(orderId, OrderState.ClosedAtEnd, _leaseResources(_terms()));
        assertEq(escrow.creditOf(owner, PLAIN_TOKEN), uint256(9e18) * 78 / 100, "closed at the old one");
        assertEq(escrow.creditOf(foundation, PLAIN_TOKEN), uint256(9e18) * 24 / 100, "foundation");
    }

    /// @dev A fizz node's lease pays its gateway a share of the net, and together they get what a provider gets.
    function test_fees_gatewayShare() public {
        (address gateway, uint32 provider) = _addProvider("provider");
        address node = _addFizz("node", 1_000, provider);
        uint64 orderId = _fizzLease(provider, 1_000);
        vm.warp(block.timestamp + 1_234);
        uint256 gross = uint256(90e18) * 1_234 / 36_000;
        uint256 net = gross - gross * 22 / 100;
        (uint256 amount, uint256 gatewayAmount) = book.claimable(orderId);
        assertEq(gatewayAmount, net / 10, "a tenth");
        assertEq(amount + gatewayAmount, net, "nothing is lost");
        book.settle(_ids(orderId));
        assertEq(escrow.creditOf(node, PLAIN_TOKEN), amount, "node");
        assertEq(escrow.creditOf(gateway, PLAIN_TOKEN), gatewayAmount, "gateway");
    }

    /// @dev Foundation money is pulled, by nobody but whoever was the foundation when it was earned.
    function test_foundation_pulls() public {
        (, uint32 provider) = _addProvider("provider");
        _fullLease(PLAIN_TOKEN, provider);
        uint256 earned = escrow.creditOf(foundation, PLAIN_TOKEN);
        address next = makeAddress("next foundation");
        escrow.setFoundation(next);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NothingToWithdraw.selector, next, PLAIN_TOKEN));
        vm.prank(next);
        escrow.withdrawCredit(PLAIN_TOKEN, next);
        vm.prank(foundation);
        assertEq(escrow.withdrawCredit(PLAIN_TOKEN, next), earned, "pulled");
        assertEq(plain.balanceOf(next), earned, "received");
    }

    function _fullLease(uint8 token, uint32 provider) private returns (uint64 orderId) {
        OrderTerms memory terms = _terms();
        vm.prank(user);
        orderId = book.createOrder(account, token, 0, terms);
        _match(orderId, _rank(provider, 90e18));
        vm.warp(block.timestamp + terms.duration + GRACE_WINDOW);
        leases.closeLease(orderId, OrderState.ClosedAtEnd, _leaseResources(terms));
    }

    function _fizzLease(uint32 provider, uint32 fizz) private returns (uint64 orderId) {
        OrderTerms memory terms = _terms();
        vm.prank(user);
        orderId = book.createOrder(account, PLAIN_TOKEN, 0, terms);
        _match(orderId, _rank(provider, 90e18) | (uint256(fizz) << 86));
    }

    function _match(uint64 orderId, uint256 rank) private {
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, _terms(), rank));
        assertState(orderId, OrderState.Leased);
    }

    // ------------------------------------------------------------------- tokens

    function test_setFoundation() public {
        address next = makeAddress("next foundation");
        vm.expectEmit(address(escrow));
        emit IEscrow.FoundationChanged(next);
        escrow.setFoundation(next);
        assertEq(escrow.foundation(), next, "foundation");
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InvalidRecipient.selector, address(0)));
        escrow.setFoundation(address(0));
    }

    function test_setToken_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotPaymentTokens.selector, address(this)));
        escrow.setToken(5, address(plain), true, 2);
        vm.startPrank(address(tokens));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TokenIdOutOfRange.selector, 32, 31));
        escrow.setToken(32, address(plain), true, 2);
        // Odd ids are what matches make of even ones.
        uint16[4] memory unknown = [uint16(0), 1, 3, 6];
        for (uint256 index = 0; index < unknown.length; ++index) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.UnknownFeeSchedule.selector, unknown[index]));
            escrow.setToken(5, address(plain), true, unknown[index]);
        }
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.TokenAddressFixed.selector, PLAIN_TOKEN, address(plain), address(spon))
        );
        escrow.setToken(PLAIN_TOKEN, address(spon), true, 2);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TokenAddressFixed.selector, 5, address(0), address(0)));
        escrow.setToken(5, address(0), true, 2);
        vm.expectEmit(address(escrow));
        emit IEscrow.TokenSet(31, address(spon), false, 2);
        escrow.setToken(31, address(spon), false, 2);
        vm.stopPrank();
        (address tokenAddress, bool enabled, uint16 schedule) = escrow.tokenOf(31);
        assertEq(tokenAddress, address(spon), "address");
        assertFalse(enabled, "enabled");
        assertEq(schedule, 2, "schedule");
    }

    function test_governance_isRestricted() public {
        bytes memory unauthorized = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, user);
        vm.startPrank(user);
        vm.expectRevert(unauthorized);
        escrow.addFeeSchedule(FeeSchedule(0, 0, 0, 0, 0), 0);
        vm.expectRevert(unauthorized);
        escrow.setFoundation(user);
        vm.stopPrank();
    }

    function test_orderBookFunctions_areItsAlone() public {
        bytes memory refused = abi.encodeWithSelector(IEscrow.NotOrderBook.selector, address(this));
        vm.expectRevert(refused);
        escrow.lockOrder(account, PLAIN_TOKEN, user, 1, 1);
        vm.expectRevert(refused);
        escrow.authoriseUpdate(account, PLAIN_TOKEN, user, 1, 1);
        vm.expectRevert(refused);
        escrow.lockUpdate(account, PLAIN_TOKEN, 1, 1);
        vm.expectRevert(refused);
        escrow.extendLease(1, 0, 1, user);
        vm.expectRevert(refused);
        escrow.releaseOrder(1, 0);
        vm.expectRevert(refused);
        escrow.openLeases(new uint256[](0), address(this));
        vm.expectRevert(refused);
        escrow.settleLease(1, 0, 1, address(0));
        vm.expectRevert(refused);
        escrow.settleAndCredit(1, 0, 1, address(this), address(0));
        vm.expectRevert(refused);
        escrow.settleAndPay(1, 0, 1, 1e18, address(this), address(0), address(this));
        vm.expectRevert(refused);
        escrow.closeLease(1, 0, 1, false, address(this), address(0));
        vm.expectRevert(refused);
        escrow.undoLease(1, 0);
    }
}
