"""The audit: proves the platform's invariants on live data, without changing any, while orders flow.

    report = await audit(os.environ)
    print(report.clean, report.as_json())

It reads all databases, the log, and the provider's and the carrier's own records. What makes "not settled yet" sound is
the order in which it looks:

1. every service's database, each at one moment. Its lanes say exactly which facts that moment includes;
2. the outside world. Whatever a service had asked for by then is in it;
3. the log, up to the end that it has now. Whatever a database had committed is in it, or in that database's outbox;
4. every service's clock once more. Whatever is in the log was committed before, so the clock knows it.

So each comparison is exact in one direction: rows are compared with the facts that their own clock includes, an order's
remains are judged only where the service concerned had heard how the order ended, and what came after a snapshot is not
held against it. What is counted as not settled yet is on its way, or waits for a redrive; everything else that differs
is wrong. So is an end of an order, or a request, on which a service has not acted for an hour, whatever it waits for.
"""

from pavane.audit.errors import EvidenceMissing
from pavane.audit.live import audit
from pavane.audit.report import Report, Verdict, table

__all__ = ["EvidenceMissing", "Report", "Verdict", "audit", "table"]
