"""`pavane replay`: what would today's code decide about what a service heard then?

Every record that the service heard is decided about again, in the order in which it was heard, upon the rows that the
facts of then had made; what would be said is compared with what was said. Nothing is written, and nobody is asked: what
the world answered is recalled from the facts that told it (`recollection`), and there is nothing here that could ask.

    hearing        in which order a lane heard, and what it said to what, by the clocks in its facts
    states         the rows at each moment, as the facts of then made them
    recollection   the world's answers of then
    judging        one decision again, beside the one of then
    replaying      all lanes side by side, and the report

Where records come from is a `History`: a running platform (`live`) or a folder that was recorded once (`recorded`).

Its limits: what was asked of the world is seen only as far as facts tell it. A lane that skipped facts ('pavane lanes
skip') cannot be replayed; what is nobody's fact is passed over. In which order two lanes changed a row that they share
is not recorded: what was said under any order within ten seconds counts as the same.
"""
