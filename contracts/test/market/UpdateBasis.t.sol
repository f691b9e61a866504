// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {FeeSchedule, OrderRequest, OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {SignedRequests} from "./SignedRequests.sol";
import {UpdateTest} from "./UpdateTest.sol";

/// @notice What a proposed update rests on: the epoch of the account, the setting of the right by which a spender proposed it,
/// and the fees of its token. It falls with each of them, and nothing that is granted later brings it back.
contract UpdateBasisTest is UpdateTest {
    uint256 private constant PLAIN_PAIR = PLAIN_SCHEDULE / 2;
    uint112 private constant UNLIMITED = type(uint112).max;
    uint40 private constant FOREVER = type(uint40).max;

    address private _spender = makeAddress("spender");
    address private _buyer = makeAddress("buyer");

    function setUp() public override {
        super.setUp();
        _expiry = FOREVER;
    }

    // ------------------------------------------------------------------- rights

    /// @dev What was granted anew is another right: with the same words in it, and for less, which the proposal would exceed.
    function test_acceptUpdate_afterTheRightWasTakenBackAndGrantedAnew() public {
        _grant(UNLIMITED, FOREVER, true);
        _proposeAsSpender();
        _grant(0, 0, false);
        _assertFallen();
        _grant(UNLIMITED, FOREVER, true);
        _assertFallen();
        _grant(0, uint40(block.timestamp + 60), true);
        _assertFallen();
        _grant(UNLIMITED, FOREVER, true);
        _proposeAsSpender();
        _assertStands();
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
    }

    /// @dev The owner that lowers a limit takes back what was proposed under the higher one; so does every other setting.
    function test_acceptUpdate_afterTheRightWasReplaced() public {
        SpendingRight[4] memory replacements = [
            SpendingRight(UNLIMITED, FOREVER, true),
            SpendingRight(0, FOREVER, true),
            SpendingRight(UNLIMITED, FOREVER, false),
            SpendingRight(UNLIMITED, uint40(block.timestamp + 1 days), true)
        ];
        for (uint256 index = 0; index < replacements.length; ++index) {
            _grant(UNLIMITED, FOREVER, true);
            _proposeAsSpender();
            _assertStands();
            vm.prank(user);
            escrow.setSpendingRight(account, _spender, PLAIN_TOKEN, replacements[index]);
            _assertFallen();
        }
    }

    function test_acceptUpdate_afterTheRightExpiredAndWasGrantedAnew() public {
        _grant(UNLIMITED, uint40(_start + 500), true);
        _proposeAsSpender();
        vm.warp(_start + 500);
        _assertFallen();
        _grant(UNLIMITED, uint40(_start + 1_000), true);
        _assertFallen();
    }

    /// @dev Taken back, and granted anew without a limit to spend: the dear lease that was proposed before cannot be locked by it.
    function test_acceptUpdate_locksNothingUnderANewRight() public {
        OrderTerms memory dear = _terms();
        (dear.maximumRate, dear.duration) = (36_000e18, 3_600);
        _grant(5_000e18, FOREVER, true);
        vm.prank(_spender);
        leases.proposeUpdate(_orderId, dear, FOREVER);
        _grant(0, 0, false);
        vm.warp(_start + 700);
        _grant(0, uint40(block.timestamp + 60), true);
        _refused(dear, 36_000e18);
    }

    /// @dev The limit goes down with every order and extension, by the spender's own hand or its signature: the right is the same.
    function test_acceptUpdate_afterTheLimitWasSpent() public {
        uint256 worst = _leaseLock(_newTerms().maximumRate, _newTerms().duration);
        uint256 order = escrow.lockFor(_terms().maximumRate, _terms().duration, PLAIN_SCHEDULE);
        // 90 tokens in ten hours, and the user fee on top.
        uint256 minute = 0.15e18 + 0.003e18;
        _grant(uint112(worst + 2 * order + minute), FOREVER, true);
        uint56 basis = escrow.basisOf(account, PLAIN_TOKEN, _spender);
        _proposeAsSpender();
        OrderTerms memory terms = _terms();
        vm.prank(_spender);
        book.createOrder(account, PLAIN_TOKEN, 0, terms);
        _assertStands();
        _createSigned();
        _assertStands();
        vm.prank(_spender);
        leases.extendLease(_orderId, 60);
        _assertStands();
        assertEq(escrow.spendingRight(account, _spender, PLAIN_TOKEN).limit, 0, "all of it");
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), basis, "the same right");
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
    }

    /// @dev Rights of others, in other tokens and of other accounts are set without a word about this one.
    function test_acceptUpdate_afterOtherRightsWereSet() public {
        address other = makeAddress("other spender");
        uint32 opened = escrow.open(user);
        _grant(UNLIMITED, FOREVER, true);
        _proposeAsSpender();
        SpendingRight memory none = SpendingRight(0, 0, false);
        vm.startPrank(user);
        escrow.setSpendingRight(account, other, PLAIN_TOKEN, none);
        escrow.setSpendingRight(account, _spender, SPON_TOKEN, none);
        escrow.setSpendingRight(opened, _spender, PLAIN_TOKEN, none);
        escrow.transferFrom(user, _buyer, opened);
        vm.stopPrank();
        _assertStands();
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
    }

    /// @dev The owner needs no right, and what it proposed falls with nobody's.
    function test_acceptUpdate_ofTheOwnerAfterRightsWereSet() public {
        _grant(UNLIMITED, FOREVER, true);
        _propose(_newTerms());
        _grant(0, 0, false);
        _assertStands();
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
    }

    /// @dev Whoever proposes next, what fell before is gone: the owner's stands in its place.
    function test_proposeUpdate_replacesWhatFell() public {
        _grant(UNLIMITED, FOREVER, true);
        _proposeAsSpender();
        _grant(UNLIMITED, FOREVER, true);
        _propose(_newTerms());
        assertEq(leases.updateProposal(_orderId).by, user, "the owner's");
        _grant(UNLIMITED, FOREVER, true);
        _assertStands();
    }

    /// @dev A spender that bought the account proposed as somebody else.
    function test_acceptUpdate_onceTheSpenderOwnsTheAccount() public {
        _grant(UNLIMITED, FOREVER, true);
        _proposeAsSpender();
        vm.prank(user);
        escrow.transferFrom(user, _spender, account);
        assertTrue(escrow.mayClose(account, PLAIN_TOKEN, _spender), "it may close");
        _assertFallen();
    }

    // --------------------------------------------------------------------- fees

    /// @dev An update is accepted at the fees that it was proposed at, or not at all: governance raised them in between.
    function test_acceptUpdate_atOtherFeesThanItWasProposedAt() public {
        address[2] memory proposers = [user, _spender];
        uint16 dearer = escrow.addFeeSchedule(FeeSchedule(2_000, 500, 0, 0, 0), 2_000);
        for (uint256 index = 0; index < proposers.length; ++index) {
            _grant(UNLIMITED, FOREVER, true);
            vm.prank(proposers[index]);
            leases.proposeUpdate(_orderId, _newTerms(), _expiry);
            tokens.setFeeSchedule(PLAIN_TOKEN, dearer);
            _assertFallen();
            // What nobody proposed is not refused either.
            vm.expectRevert(abi.encodeWithSelector(ILeases.NoUpdateProposed.selector, _orderId), address(book));
            vm.prank(_owner);
            leases.rejectUpdate(_orderId, _updateHash(_newTerms()));
            tokens.setFeeSchedule(PLAIN_TOKEN, PLAIN_SCHEDULE);
        }
    }

    /// @dev A limit of exactly the worst case, and fees that would lock 40 where it allowed 32.64.
    function test_acceptUpdate_locksNoMoreThanTheSpendersLimit() public {
        uint256 worst = _leaseLock(_newTerms().maximumRate, _newTerms().duration);
        uint16 dearer = escrow.addFeeSchedule(FeeSchedule(0, 2_500, 0, 0, 0), 0);
        _grant(uint112(worst), FOREVER, true);
        _proposeAsSpender();
        tokens.setFeeSchedule(PLAIN_TOKEN, dearer);
        vm.warp(_start + 700);
        _refused(_newTerms(), _newTerms().maximumRate);
        // Its limit is spent; another right is asked for the worst case of today.
        uint256 dear = escrow.lockFor(_newTerms().maximumRate, _newTerms().duration, dearer);
        _grant(uint112(dear - 1), FOREVER, true);
        vm.expectRevert(
            abi.encodeWithSelector(
                IEscrow.SpendingLimitExceeded.selector, account, PLAIN_TOKEN, _spender, dear - 1, dear
            )
        );
        _proposeAsSpender();
        _grant(uint112(dear), FOREVER, true);
        _proposeAsSpender();
        uint64 updatedId = _accept(_newTerms(), _newTerms().maximumRate);
        assertEq(book.order(updatedId).feeSchedule, dearer, "at the fees of the proposal");
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, dear, "and no more");
    }

    /// @dev The fees of the proposal are the token's again, the same pair of schedules, which never changes: what was agreed to
    /// then is agreed to now, and what a spender's limit was charged covers it.
    function test_acceptUpdate_atTheSameFeesOnceMore() public {
        uint256 worst = _leaseLock(_newTerms().maximumRate, _newTerms().duration);
        _grant(uint112(worst), FOREVER, true);
        _proposeAsSpender();
        tokens.setFeeSchedule(PLAIN_TOKEN, SPON_SCHEDULE);
        _assertFallen();
        tokens.setFeeSchedule(PLAIN_TOKEN, PLAIN_SCHEDULE);
        _assertStands();
        vm.warp(_start + 700);
        _accept(_newTerms(), _newTerms().maximumRate);
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, worst, "what the limit was charged");
    }

    /// @dev A pair with the same fees under another number is another pair.
    function test_acceptUpdate_underATwinOfItsFees() public {
        _propose(_newTerms());
        uint16 twin = escrow.addFeeSchedule(FeeSchedule(2_000, 200, 200, GATEWAY_SHARE, MATCH_FEE), REBATED_COMMISSION);
        tokens.setFeeSchedule(PLAIN_TOKEN, twin);
        _assertFallen();
    }

    /// @dev What changes nothing that the user pays: the supplier's class, another token's fees, the list of tokens, a price.
    function test_acceptUpdate_afterWhatIsNoneOfTheUsersFees() public {
        _propose(_newTerms());
        registry.setVerified(_provider, 1, type(uint16).max, 0);
        escrow.addFeeSchedule(FeeSchedule(1, 1, 1, 1, 1), 1);
        tokens.setFeeSchedule(SPON_TOKEN, PLAIN_SCHEDULE);
        tokens.setFeeSchedule(PLAIN_TOKEN, PLAIN_SCHEDULE);
        tokens.setStatus(PLAIN_TOKEN, IPaymentTokens.Status.Delisted);
        tokens.setCap(PLAIN_TOKEN, 0);
        feed.setAnswer(2e8);
        escrow.setFoundation(_buyer);
        _assertStands();
        assertEq(
            book.order(_accept(_newTerms(), NEW_RATE)).feeSchedule, PLAIN_SCHEDULE | 1, "the rebated one of the pair"
        );
    }

    // ------------------------------------------------------------------ basisOf

    function test_basisOf_theOwner() public {
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, user), PLAIN_PAIR, "first epoch, no right");
        assertEq(escrow.basisOf(account, SPON_TOKEN, user), SPON_SCHEDULE / 2, "another token's fees");
        _grant(UNLIMITED, FOREVER, true);
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, user), PLAIN_PAIR, "rights are others'");
        tokens.setFeeSchedule(PLAIN_TOKEN, SPON_SCHEDULE);
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, user), SPON_SCHEDULE / 2, "other fees");
    }

    function test_basisOf_aSpender() public {
        uint256[5] memory expected = [uint256(1), 2, 0, 4, 0];
        SpendingRight[5] memory rights = [
            SpendingRight(0, uint40(_start + 10), true),
            SpendingRight(UNLIMITED, FOREVER, true),
            // May spend and not close, which counts as a setting all the same.
            SpendingRight(UNLIMITED, FOREVER, false),
            SpendingRight(1, FOREVER, true),
            SpendingRight(0, 0, false)
        ];
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), 0, "a stranger yet");
        for (uint256 index = 0; index < rights.length; ++index) {
            vm.prank(user);
            escrow.setSpendingRight(account, _spender, PLAIN_TOKEN, rights[index]);
            uint256 settings = expected[index];
            assertEq(
                escrow.basisOf(account, PLAIN_TOKEN, _spender),
                settings == 0 ? 0 : (settings << 8) | PLAIN_PAIR,
                "setting and fees"
            );
            SpendingRight memory right = escrow.spendingRight(account, _spender, PLAIN_TOKEN);
            assertEq(keccak256(abi.encode(right)), keccak256(abi.encode(rights[index])), "the count is no part of it");
        }
        tokens.setFeeSchedule(PLAIN_TOKEN, SPON_SCHEDULE);
        _grant(0, FOREVER, true);
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), (6 << 8) | (SPON_SCHEDULE / 2), "sixth, other fees");
    }

    function test_basisOf_whoMayNotClose() public {
        uint40 ends = uint40(_start + 10);
        _grant(UNLIMITED, ends, true);
        address[4] memory others = [address(0), _buyer, _owner, address(book)];
        for (uint256 index = 0; index < others.length; ++index) {
            assertEq(escrow.basisOf(account, PLAIN_TOKEN, others[index]), 0, "nobody's");
        }
        assertEq(escrow.basisOf(account, SPON_TOKEN, _spender), 0, "not in another token");
        vm.warp(ends - 1);
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), (1 << 8) | PLAIN_PAIR, "in its last second");
        vm.warp(ends);
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), 0, "from its expiry on");
    }

    function test_basisOf_whatIsNotThere() public view {
        assertEq(escrow.basisOf(99, PLAIN_TOKEN, user), 0, "no account");
        assertEq(escrow.basisOf(99, PLAIN_TOKEN, address(0)), 0, "whose owner is nobody");
        assertEq(escrow.basisOf(0, PLAIN_TOKEN, user), 0, "no account zero");
        assertEq(escrow.basisOf(account, 9, user), 0, "a token that has no fees");
        assertEq(escrow.basisOf(account, 9, _spender), 0, "in which nobody has rights");
    }

    /// @dev Settings are counted in each epoch by itself, and no basis of one epoch is one of another.
    function test_basisOf_afterTheAccountChangedHands() public {
        _grant(UNLIMITED, FOREVER, true);
        vm.prank(user);
        escrow.transferFrom(user, _buyer, account);
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _buyer), (1 << 32) | PLAIN_PAIR, "the buyer");
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, user), 0, "the seller");
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), 0, "the seller's spender");
        vm.prank(_buyer);
        escrow.setSpendingRight(account, user, PLAIN_TOKEN, SpendingRight(0, FOREVER, true));
        assertEq(
            escrow.basisOf(account, PLAIN_TOKEN, user), (1 << 32) | (1 << 8) | PLAIN_PAIR, "as the buyer's spender"
        );
        vm.prank(_buyer);
        escrow.transferFrom(_buyer, user, account);
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, user), (2 << 32) | PLAIN_PAIR, "an owner again, of another epoch");
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), 0, "what it granted once is gone");
        _grant(UNLIMITED, FOREVER, true);
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), (2 << 32) | (1 << 8) | PLAIN_PAIR, "granted anew");
    }

    /// @dev The count comes round after 2^24 settings by the owner, and reaches neither what the right allows nor the epoch.
    function test_basisOf_afterAsManySettingsAsItHasBitsFor() public {
        _grant(UNLIMITED, FOREVER, true);
        vm.record();
        escrow.spendingRight(account, _spender, PLAIN_TOKEN);
        (bytes32[] memory reads,) = vm.accesses(address(escrow));
        bytes32 slot = reads[reads.length - 1];
        uint256 word = uint256(vm.load(address(escrow), slot));
        assertEq(word >> 160, 1, "set once");
        vm.store(address(escrow), slot, bytes32(word | (0xffffff << 160)));
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), (0xffffff << 8) | PLAIN_PAIR, "the highest");
        _grant(UNLIMITED - 1, FOREVER - 1, true);
        assertEq(escrow.basisOf(account, PLAIN_TOKEN, _spender), PLAIN_PAIR, "round");
        SpendingRight memory right = escrow.spendingRight(account, _spender, PLAIN_TOKEN);
        assertTrue(right.limit == UNLIMITED - 1 && right.expiry == FOREVER - 1 && right.mayClose, "as it was set");
        assertEq(escrow.epochOf(account), 0, "the first epoch");
    }

    /// @dev Through any settings, transfers and fees: the same basis never stands for two of them.
    function testFuzz_basisOf_neverTwiceTheSame(uint256 seed) public {
        uint256[] memory seen = new uint256[](24);
        address owner = user;
        for (uint256 step = 0; step < seen.length; ++step) {
            uint256 what = uint256(keccak256(abi.encode(seed, step))) % 4;
            if (what == 0) {
                address next = owner == user ? _buyer : user;
                vm.prank(owner);
                escrow.transferFrom(owner, next, account);
                owner = next;
            }
            if (what == 1) {
                tokens.setFeeSchedule(PLAIN_TOKEN, escrow.addFeeSchedule(FeeSchedule(0, uint16(step), 0, 0, 0), 0));
            }
            // After a transfer there is none until it is granted; what is granted with a transfer or other fees is another, too.
            vm.prank(owner);
            escrow.setSpendingRight(account, _spender, PLAIN_TOKEN, SpendingRight(UNLIMITED, FOREVER, true));
            seen[step] = escrow.basisOf(account, PLAIN_TOKEN, _spender);
            for (uint256 earlier = 0; earlier < step; ++earlier) {
                assertNotEq(seen[earlier], seen[step], "rested on this before");
            }
        }
    }

    // ------------------------------------------------------------------ private

    function _grant(uint112 limit, uint40 expiry, bool mayClose) private {
        vm.prank(user);
        escrow.setSpendingRight(account, _spender, PLAIN_TOKEN, SpendingRight(limit, expiry, mayClose));
    }

    function _proposeAsSpender() private {
        vm.prank(_spender);
        leases.proposeUpdate(_orderId, _newTerms(), _expiry);
    }

    function _assertStands() private view {
        assertEq(leases.updateProposal(_orderId).hash, _updateHash(_newTerms()), "it stands");
    }

    function _assertFallen() private {
        assertEq(leases.updateProposal(_orderId).hash, 0, "it fell");
        assertEq(leases.updateProposal(_orderId).by, address(0), "nobody's");
        _refused(_newTerms(), NEW_RATE);
    }

    function _refused(OrderTerms memory terms, uint96 rate) private {
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        vm.expectRevert(abi.encodeWithSelector(ILeases.NoUpdateProposed.selector, _orderId), address(book));
        _accept(terms, rate);
        assertBalances(account, PLAIN_TOKEN, unlocked, locked);
        assertState(_orderId, OrderState.Leased);
    }

    /// @dev An order of the spender's, which somebody else brings in.
    function _createSigned() private {
        OrderRequest memory request =
            OrderRequest(_spender, account, PLAIN_TOKEN, 0, PLAIN_SCHEDULE, _terms(), 0, block.timestamp);
        uint256 key = uint256(keccak256("spender"));
        leases.createOrderFor(request, SignedRequests.sign(vm, key, request, address(book)));
    }
}
