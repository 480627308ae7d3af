"""What `make` runs fails when a part of it could not be done."""

import os
import subprocess
from pathlib import Path


def test_a_scan_for_secrets_that_has_no_files_fails(tmp_path: Path) -> None:
    (tmp_path / ".venv-security").mkdir()
    scanner = tmp_path / "detect-secrets-hook"
    scanner.write_text("#!/bin/sh\n")
    scanner.chmod(0o755)
    words = ["make", "--dry-run", "--no-print-directory", "security", f"SCANS={tmp_path}"]
    recipe = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    scan = recipe[recipe.index("git ls-files") :].partition("\n" + str(tmp_path / "pip-audit"))[0]
    environment = {**os.environ, "GIT_DIR": str(tmp_path / "nowhere")}

    done = subprocess.run(["sh", "-ec", scan], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert "detect-secrets-hook" in scan
    assert done.returncode != 0, done.stderr
    assert "git checkout" in done.stderr
