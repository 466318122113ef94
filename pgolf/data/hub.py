"""One dataset repository of a Hugging Face hub at one commit: what it holds, and its bytes, resumable.

The protocol is huggingface_hub's: repository info pins the revision to a commit, the tree lists sizes and
checksums (SHA-256 of large files, git's SHA-1 of small ones), HEAD on a file's resolve address gives its ETag
and where its bytes lie, GET takes a Range. `hf_hub_download` is not used because it keeps nothing of an
interrupted file and compares sizes, not checksums; a shard has 200 MB.

A stored login is sent to the library's own endpoint only, never to one that was named here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast, runtime_checkable
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    FileMetadataError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile, RepoFolder
from huggingface_hub.utils import build_hf_headers, silent_tqdm

from pgolf.data.directory import checksum
from pgolf.errors import DataError

KIND: Literal["dataset"] = "dataset"
ANSWER_SECONDS = 30.0  # how long the hub may think about one question
TRANSPORT: type[Exception] = HfHubHTTPError.__bases__[0]  # the root of what the hub's own HTTP client raises


@dataclass(frozen=True)
class Remote:
    """A file of the repository: its path there, its size, and the hash by which the hub knows it."""

    path: str
    size: int
    hash: Literal["sha256", "git"]
    checksum: str
    renamed: str | None = None  # what it is called here, if not as it is there

    @property
    def name(self) -> str:
        return self.renamed or self.path.rpartition("/")[2]

    def is_(self, file: Path) -> bool:
        """Whether a local file has exactly these bytes."""
        return file.stat().st_size == self.size and checksum(file, self.hash) == self.checksum


@runtime_checkable
class Growing(Protocol):
    """What bytes are appended to: as much of a binary file as a download uses."""

    def tell(self) -> int: ...

    def seek(self, offset: int, whence: int = 0) -> int: ...

    def truncate(self) -> int: ...

    def write(self, block: bytes) -> int: ...


class Hub:
    """A dataset repository as it was at one commit."""

    def __init__(self, repo: str, revision: str = "main", endpoint: str | None = None) -> None:
        self.repo, self.revision = repo, revision
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._token = None if endpoint is None else False
        self._api = HfApi(endpoint=self.endpoint, token=self._token, library_name="pgolf")

    @cached_property
    def commit(self) -> str:
        """The full hash of the commit that the revision names now.

        Raises:
            DataError: if the hub does not answer, or has no such repository or revision.
        """
        with self._explained():
            found = self._api.repo_info(
                self.repo, revision=self.revision, repo_type=KIND, timeout=ANSWER_SECONDS
            )
        assert found.sha is not None, "the hub always says the commit"
        return found.sha

    def files(self, folder: str) -> list[Remote]:
        """The files directly in a folder, by name; none if there is no such folder."""
        return sorted(
            (_remote(e) for e in self._entries(folder) if isinstance(e, RepoFile)), key=lambda r: r.path
        )

    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly in a folder."""
        return sorted(Path(e.path).name for e in self._entries(folder) if isinstance(e, RepoFolder))

    def get(self, remote: Remote, stream: Growing) -> None:
        """Append a file's bytes to `stream`, which holds its first bytes already, or none.

        A connection that breaks is taken up again where it broke, a few times. The bytes are not judged
        here: whoever asked compares the checksum.

        Raises:
            DataError: if the hub does not answer, or serves another file than it listed.
        """
        with self._explained():
            url = hf_hub_url(
                self.repo, remote.path, repo_type=KIND, revision=self.commit, endpoint=self.endpoint
            )
            told = get_hf_file_metadata(
                url, token=self._token, timeout=ANSWER_SECONDS, endpoint=self.endpoint, library_name="pgolf"
            )
            if told.etag != remote.checksum:
                raise DataError("the hub serves the files that it lists",
                                f"{remote.path}: {remote.checksum[:12]} listed, {str(told.etag)[:12]} served",
                                "try again later, or without --endpoint")  # fmt: skip
            here = urlsplit(told.location).netloc == urlsplit(url).netloc  # else a store that wants no login
            headers = build_hf_headers(token=self._token if here else False, library_name="pgolf")
            http_get(
                told.location,
                cast(BinaryIO, stream),
                resume_size=stream.tell(),
                headers={**headers, "Accept-Encoding": "identity"},
                expected_size=remote.size,
                tqdm_class=cast(type, silent_tqdm),
            )

    def _entries(self, folder: str) -> list[RepoFile | RepoFolder]:
        with self._explained():
            try:
                return list(self._api.list_repo_tree(self.repo, folder, revision=self.commit, repo_type=KIND))
            except RemoteEntryNotFoundError:
                return []

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the hub or the network says into a mistake that can be mended."""
        where = f"{self.repo} at {self.endpoint}"
        try:
            yield
        except HFValidationError as error:
            raise DataError("a hub repository is written owner/name", f"{self.repo}: {error}",
                            "--repo owner/name") from None  # fmt: skip
        except RepositoryNotFoundError:
            raise DataError("a dataset repository exists on the hub and may be read", where,
                            "check --repo; for a gated one, `hf auth login`") from None  # fmt: skip
        except RevisionNotFoundError:
            raise DataError("a revision is a branch, tag or commit of the repository",
                            f"{self.revision} of {where}", "--revision main") from None  # fmt: skip
        except RemoteEntryNotFoundError as error:
            raise DataError("every file of the list is there", f"{where}: {_said(error)}",
                            "report it to the repository's owner, or give another --repo") from None  # fmt: skip
        except OfflineModeIsEnabled:
            raise DataError("a download needs the network", f"{where}: HF_HUB_OFFLINE is set",
                            "unset HF_HUB_OFFLINE") from None  # fmt: skip
        except (TRANSPORT, FileMetadataError) as error:
            raise DataError("the hub answers", f"{where}: {_said(error)}",
                            "run the same command again, it goes on where it stopped; a mirror: --endpoint URL",
                            ) from None  # fmt: skip
        except OSError as error:
            if error.errno is not None:  # the disk's, not the network's
                raise
            raise DataError("a file comes whole", f"{where}: {_said(error)}",
                            "run the same command again, it goes on where it stopped") from None  # fmt: skip


def _remote(entry: RepoFile) -> Remote:
    if entry.lfs is not None:
        return Remote(entry.path, entry.size, "sha256", entry.lfs.sha256)
    return Remote(entry.path, entry.size, "git", entry.blob_id)


def _said(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
