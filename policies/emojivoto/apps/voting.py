"""The votes: a gRPC method for each emoji on port 8080, metrics on 8801."""

import asyncio
from collections import Counter

import http1
import rpc

METHODS = {"VoteDoughnut": ":doughnut:", "VoteGhost": ":ghost:", "VotePoop": ":poop:"}
votes: Counter[str] = Counter()


def vote_for(shortcode: str) -> rpc.Method:
    """Return the method that counts a vote for one emoji, and answers how many it has."""

    def vote(_request: rpc.Message) -> rpc.Message:
        votes[shortcode] += 1
        return {"votes": votes[shortcode]}

    return vote


def results(_request: rpc.Message) -> rpc.Message:
    """Return the votes by shortcode, the most first."""
    return dict(votes.most_common())


if __name__ == "__main__":
    voting = {method: vote_for(shortcode) for method, shortcode in METHODS.items()}
    service = rpc.Service(rpc.VOTING_SERVICE, {**voting, "Results": results})
    http1.serve_metrics(8801, service.calls)
    asyncio.run(rpc.serve(service, 8080))
