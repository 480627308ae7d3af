"""The one command. Each function is one subcommand; what it does is imported when it is called: help is quick."""

from pathlib import Path
from typing import Annotated

import typer

from infra.proxies import pass_by_proxies
from pavane.dead_letters.commands import dead_letters_app
from pavane.forget.commands import forget, keys_app
from pavane.lanes.commands import lanes_app
from pavane.options import DEFAULT_DATA, Data
from pavane.rebuild.commands import log_app, rebuild

app = typer.Typer(
    help="Pavane: an order platform of choreographed, event-driven services.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
topics_app = typer.Typer(help="The topics of infra/topics.yaml, against a cluster.", no_args_is_help=True)
schemas_app = typer.Typer(help="The schemas of the public language, against a registry.", no_args_is_help=True)
choreography_app = typer.Typer(help="The dance, from the services' declarations alone.", invoke_without_command=True)
history_app = typer.Typer(help="Recorded topics, for 'pavane replay SERVICE --history FOLDER'.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(schemas_app, name="schemas")
app.add_typer(choreography_app, name="choreography")
app.add_typer(dead_letters_app, name="dead-letters")
app.add_typer(lanes_app, name="lanes")
app.add_typer(keys_app, name="keys")
app.command()(forget)
app.add_typer(history_app, name="history")
app.add_typer(log_app, name="log")
app.command()(rebuild)

ALL = "all"


@app.callback()
def begin() -> None:
    """What every command begins with."""
    pass_by_proxies()


@app.command()
def up(data: Data = DEFAULT_DATA) -> None:
    """Start the embedded stack alone, for developing: Kafka, registry, PostgreSQL, Valkey. Ctrl-C stops it."""
    from pavane import console, foreground

    console.run(foreground.up(data))


@app.command()
def run(
    services: Annotated[list[str] | None, typer.Argument(help="Services, or 'gateway'. None: everything.")] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Run services on the servers that PAVANE_* or the data folder name; without names, a stack and everything on it.

    Ctrl-C stops what was started.
    """
    from pavane import console, foreground

    console.run(foreground.run_services(services, data) if services else foreground.run_everything(data))


@app.command()
def demo(
    orders: Annotated[str, typer.Option(envvar="ORDERS", help="How many orders to place, or 'all'.")] = "1000",
    data: Data = DEFAULT_DATA,
    seed: Annotated[int | None, typer.Option(envvar="SEED", help="Chooses declines, refusals, cancellations.")] = None,
    keep: Annotated[
        bool | None, typer.Option(envvar="KEEP", help="Stay up at the end. Default: on a terminal.", show_default=False)
    ] = None,
) -> None:
    """Drive real orders through the whole platform, and count what became of them."""
    from pavane import console
    from pavane.demo.demonstration import Options, demonstrate

    if orders != ALL and not (orders.isdecimal() and int(orders) > 0):
        raise typer.BadParameter(f"a number of orders from 1 on, or '{ALL}', not {orders!r}", param_hint="ORDERS")
    number = None if orders == ALL else int(orders)
    stays = console.is_terminal() if keep is None else keep
    console.run(demonstrate(Options(data, number, seed, stays)))


@app.command()
def bench(
    scenarios: Annotated[list[str] | None, typer.Argument(help="Which; without names, all of them.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: does it run, not how fast.")] = False,
    orders: Annotated[int | None, typer.Option(help="How many orders a drain has.", show_default=False)] = None,
    growth: Annotated[int, typer.Option(help="Growth: drain also with so many orders there already.")] = 0,
    seed: Annotated[int, typer.Option(envvar="SEED", help="Chooses what is ordered.")] = 1,
    data: Annotated[Path, typer.Option("--data", help="Folder for the stacks; emptied.")] = Path(".bench/data"),
    out: Annotated[Path, typer.Option("--out", help="Folder for bench.json and the picture.")] = Path(".bench"),
) -> None:
    """Measure how fast the platform is, beside what this machine's Kafka and PostgreSQL can move at all."""
    from pavane import console
    from pavane.bench.commands import bench as measure
    from pavane.bench.scenario import Options

    console.run(measure(scenarios or [], Options(data, quick, orders, growth, seed), out))


@app.command()
def migrate(data: Data = DEFAULT_DATA) -> None:
    """Bring every service's database to the tables of its code, and that of the keys of persons."""
    from pavane import console, prepare, running

    with console.explained():
        typer.echo(f"migrated: {prepare.migrate_databases(running.migrated(data))}")


@app.command()
def audit(
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A file: what an earlier audit kept there need not be read again; kept anew if all holds."),
    ] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Prove every invariant on live data. Exit code 0: all hold; 1: some are broken; 2: could not be asked."""
    from pavane import console, verdict

    console.run(verdict.audit(data, as_json, checkpoint), failed=verdict.COULD_NOT_ASK)


@app.command()
def replay(
    service: Annotated[str, typer.Argument(help="The service that decides again.")],
    start: Annotated[str, typer.Option("--from", help="A time, or an offset of its topic. Default: the start.")] = "",
    end: Annotated[str, typer.Option("--to", help="A time, or an offset, itself left out. Default: now.")] = "",
    history: Annotated[Path | None, typer.Option(help="A folder that 'history record' wrote, instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Changes nothing: no replay writes, or asks anybody, with it or without.")
    ] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """What would today's code decide about what a service heard then? Exit code 0: the same; 1: not; 2: cannot tell."""
    from pavane import console
    from pavane.replay import commands

    console.run(commands.compare(commands.Asked(service, start, end, history, data, as_json)), commands.COULD_NOT)


@history_app.command("record")
def history_record(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    data: Data = DEFAULT_DATA,
) -> None:
    """Write what every service has heard and said: every build can replay it."""
    from pavane import console
    from pavane.replay import commands

    console.run(commands.record_history(folder, data), commands.COULD_NOT)


@app.command()
def explore(
    two: Annotated[bool, typer.Option("--two", help="Also two orders over one last item (minutes).")] = False,
) -> None:
    """Walk every possible interleaving of the real decisions, with every fault. Exit code 1 when a promise breaks."""
    from choreography import explored
    from contracts.views import services
    from pavane import console

    with console.explained():
        walked = explored.explore_all(explored.walks(two=two))
        raise typer.Exit(explored.report(walked, list(services())))


@app.command("can-deploy")
def can_deploy(
    service: Annotated[str, typer.Argument(help="The service, or 'gateway', of which another version would run.")],
    as_: Annotated[
        str, typer.Option("--as", help="A checkout, a folder of schemas, or a version that ran before. Default: this.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Is it safe to deploy this version now? Exit code 0: yes; 1: no; 2: not known."""
    from pavane import console
    from pavane.deploy import report

    console.run(report.can_deploy(data, service, as_, as_json=as_json), failed=report.NOT_KNOWN)


@app.command()
def overdue(
    services: Annotated[list[str] | None, typer.Argument(help="Only what these services owe.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="So many steps that orders wait for are listed; 0: all.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Orders that wait longer than usual: for whom, why, and what helps. Exit code 0: none; 1: some; 2: not known."""
    from pavane import console
    from pavane.operators.reach import Reach
    from pavane.overdue.telling import print_overdue

    console.run(print_overdue(Reach.at(data), services or (), most=limit, as_json=as_json), failed=2)


@choreography_app.callback()
def choreography(context: typer.Context) -> None:
    """Print what follows from what, and what is wrong with it. Exit code 1 when something is."""
    from pavane import console, dance

    if context.invoked_subcommand is None:
        with console.explained():
            raise typer.Exit(dance.show())


@choreography_app.command("asyncapi")
def choreography_asyncapi(
    folder: Annotated[Path, typer.Argument(help="Where asyncapi.json and index.html are written.")],
) -> None:
    """Write the dance as an AsyncAPI 3 document with its Avro schemas, and as a page for people."""
    from pavane import console, dance

    with console.explained():
        raise typer.Exit(dance.write_asyncapi(folder))


@choreography_app.command("picture")
def choreography_picture(
    file: Annotated[Path, typer.Argument(help="What is written: .svg, .png or .dot.")],
    order: Annotated[str | None, typer.Option(help="Highlight the path of this order, from the timeline.")] = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Draw the dance: an arrow from every event to what may follow from it."""
    from pavane import console, dance

    with console.explained():
        raise typer.Exit(dance.draw(file, order, data))


@topics_app.command("plan")
def topics_plan(data: Data = DEFAULT_DATA) -> None:
    """Show what 'apply' would do. Exit code 1 when a topic has fewer partitions than it shall have."""
    from pavane import cluster, console

    with console.explained():
        raise typer.Exit(cluster.plan_topics(data))


@topics_app.command("apply")
def topics_apply(data: Data = DEFAULT_DATA) -> None:
    """Make missing topics and set differing settings; never change a number of partitions. Exit code 1 as of 'plan'."""
    from pavane import cluster, console

    with console.explained():
        raise typer.Exit(cluster.apply_topics(data))


@schemas_app.command("check")
def schemas_check() -> None:
    """Check all versions against each other, those released and the code, offline. Exit code 1: something is wrong."""
    from pavane import cluster, console

    with console.explained():
        raise typer.Exit(cluster.check_schemas())


@schemas_app.command("release")
def schemas_release() -> None:
    """Check, then note every version as released: from then on its file never changes."""
    from pavane import cluster, console

    with console.explained():
        raise typer.Exit(cluster.release_schemas())


@schemas_app.command("diff")
def schemas_diff(data: Data = DEFAULT_DATA) -> None:
    """Show how the registry differs from the schemas here. Exit code 1 when it does."""
    from pavane import cluster, console

    with console.explained():
        raise typer.Exit(cluster.diff_schemas(data))


@schemas_app.command("push")
def schemas_push(data: Data = DEFAULT_DATA) -> None:
    """Check, then register every released version."""
    from pavane import cluster, console

    with console.explained():
        raise typer.Exit(cluster.push_schemas(data))


@schemas_app.command("list")
def schemas_list() -> None:
    """Every event of the language, by topic, with its newest version and its fields."""
    from pavane import cluster, console

    with console.explained():
        raise typer.Exit(cluster.list_schemas())


if __name__ == "__main__":
    app()
