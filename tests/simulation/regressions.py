"""Seeds that failed once, each with what it showed. They are run with every change.

A history follows from its seed and from the world as it is now: a seed here says where a fault was
found, and the rule it led to has tests of its own beside the code that keeps it.
"""

from typing import Final

REGRESSIONS: Final = {
    0: "a node that told of a fork closed the link for what the hive sent before it had read that",
    25: "the hive has to remember a fork it was told of, or the next hello is no wiser",
    158: "a process and its live copy number one epoch: what the hive has beyond it is not its own",
    283: "the same, where the copy wrote one op more: the next op would have been taken for known",
    364: "an answer that put a gap of its own into a log with a hole made another history of it",
    368: "a need was put off for what another need, still open, was asking for",
    546: "a log closed and acknowledged before a restore of the hive is in no hello: needs compare",
    701: "a log that is as long as its end says, but a rival's, was taken for whole",
    865: "a fork below what the node had pruned: the new epoch begins with a hole, and a snapshot",
    949: "a replayed page of a snapshot is no reason to wait for its end",
    1188: "a heartbeat told the mark of before while a skip was under way: it did not go down",
    1197: "a link took a rival's ops on: what is safe to delete names the history of ops too",
    1333: "what one copy of a disk numbered anew, a second copy tells again, behind a second gap",
    1433: "a backup holds a rival's log to its end: what is safe to delete names the history",
    1880: "a link open at a release is open after it too: the one let on has to call anew",
    1888: "the judge looked while a heartbeat was on its way",
    2340: "a chunk of a forgotten life came: the hive was ahead, and no hello told it",
    2630: "a rival's snapshot stood above the kept one's ops: who is released begins a new epoch",
    2658: "numbers of chunks that are held under other numbers must not meet",
    2867: "after a fork was settled the node waited for its backoff, as if something had failed",
    3200: "the hive's cursor stood within a gap of ours, where there is no digest: it is probed",
    3264: "a strike took other ops on, and until the next hello nobody saw: heartbeats compare",
    3268: "the same, in an epoch that had ended",
    3567: "a part of a rival's snapshot stood above the kept one's word: it overtakes too",
    11236: "the judge looked while a heartbeat was on its way",
    20121: "a rival's snapshot had the kept one's entities forgotten: a release wants a snapshot",
    20780: "the judge looked while a heartbeat was on its way",
    21249: "the judge looked while a heartbeat was on its way",
    24351: "a rival had answered that it does not know a log: a release has it asked for again",
    10013854: "the judge missed a log that was purged as safe before an ancient backup came back",
    10020168: "the judge took an answer of another link, said again, for the end of this one",
    10041776: "a snapshot told of a life that its machine went back from, and then outgrew",
    10047996: "the judge compared what a node has pruned with ops of a life it went back from",
    10027109: "a page of chunks had a hole inside, and each link broke on it",
    60958: "the judge took a session that began before the answer for one that was not there",
    10007859: "what a skip stood for was pruned meanwhile: with no digest it made a fork of one",
    30003039: "the judge awaited of an answer what was not asked for: places of a life before",
    30008052: "a copy had answered a need: that stood above what the kept one wrote since",
    554: "a strike took on ops beyond all that the node has, where nothing was compared",
    5004: "the judge did not wait for the snapshot that shows again what an answer filled in",
    30021118: "the judge forgot that a session may begin between a need and its answer",
}
