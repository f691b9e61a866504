//! Collects operators' signatures, checks the quorum, posts the response
