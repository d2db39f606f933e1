package forgetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
)

func (s *suite) archive(t *testing.T) {
	first := map[string]string{"cluster.yaml": "name: one\n", "stacks/a/stack.yaml": "services: {}\n", "a space/\u00fc.txt": "x", "empty": ""}
	old := s.push(t, "main", first)
	s.push(t, "main", map[string]string{"cluster.yaml": "name: two\n"})
	got := s.files(t, old)
	if !maps.Equal(got, first) {
		t.Errorf("the archive of the first commit has %v", got)
	}
	// Longer than any buffer on the way.
	long := strings.Repeat("0123456789abcdef", 1<<16)
	if got := s.files(t, s.push(t, "main", map[string]string{"long": long}))["long"]; got != long {
		t.Errorf("a file of %d bytes comes with %d", len(long), len(got))
	}
}

func (s *suite) files(t *testing.T, c controlplane.Commit) map[string]string {
	t.Helper()
	files := map[string]string{}
	unzipped, err := gzip.NewReader(bytes.NewReader(s.fetch(t, c)))
	must(t, err)
	top := ""
	for archive := tar.NewReader(unzipped); ; {
		entry, err := archive.Next()
		if err == io.EOF {
			return files
		}
		must(t, err)
		folder, path, _ := strings.Cut(entry.Name, "/")
		if entry.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if top == "" {
			top = folder
		}
		if folder != top {
			t.Errorf("%s is not in the folder %s", entry.Name, top)
		}
		if entry.Typeflag == tar.TypeReg {
			content, err := io.ReadAll(archive)
			must(t, err)
			files[path] = string(content)
		}
	}
}

func (s *suite) fetch(t *testing.T, c controlplane.Commit) []byte {
	t.Helper()
	body, err := s.Archive(t.Context(), s.Repository, c)
	must(t, err)
	content, err := io.ReadAll(body)
	must(t, err)
	must(t, body.Close())
	return content
}

// hostileArchive: whoever unpacks is on guard; the forge changes nothing.
func (s *suite) hostileArchive(t *testing.T) {
	if !s.has(Verbatim) {
		return
	}
	c := s.push(t, "main", map[string]string{"a": "b"})
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for _, entry := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "x/../../../tmp/evil", Mode: 0o4755},
		{Typeflag: tar.TypeSymlink, Name: "x/link", Linkname: "/etc/passwd"},
		{Typeflag: tar.TypeChar, Name: "/dev/mem", Devmajor: 1, Devminor: 1},
	} {
		must(t, archive.WriteHeader(entry))
	}
	must(t, archive.Close())
	must(t, zipped.Close())
	s.Fake.ReplaceArchive(c, out.Bytes())
	if got := s.fetch(t, c); !bytes.Equal(got, out.Bytes()) {
		t.Errorf("%d bytes come of %d, or other ones", len(got), out.Len())
	}
	garbage := []byte("no archive")
	s.Fake.ReplaceArchive(c, garbage)
	if got := s.fetch(t, c); !bytes.Equal(got, garbage) {
		t.Errorf("an archive that is none comes as %q", got)
	}
}

func (s *suite) head(t *testing.T) {
	s.push(t, "main", map[string]string{"a": "b"})
	first := s.push(t, "main", map[string]string{"a": "c"})
	if got, err := s.Head(t.Context(), s.Repository, ""); err != nil || got != first {
		t.Errorf("the default branch is at %s, %v; want %s", got, err, first)
	}
	for _, branch := range []controlplane.Branch{"main", "feature/a", "feature/a-b", "f\u00fcr#1%20&x=y", "a/b/c+d"} {
		want := s.push(t, branch, map[string]string{"branch": string(branch)})
		if got, err := s.Head(t.Context(), s.Repository, branch); err != nil || got != want {
			t.Errorf("%s is at %s, %v; want %s", branch, got, err, want)
		}
	}
	// No prefix of a name is the name.
	_, err := s.Head(t.Context(), s.Repository, "feature")
	s.is(t, "the head of a part of a name", err, controlplane.ErrNotFound)
}

func (s *suite) pullRequest(t *testing.T) {
	s.push(t, "main", map[string]string{"a": "one\n"})
	head := s.push(t, "work", map[string]string{"a": "two\n"})
	request := PullRequest{Head: "work", Base: "main", Author: "ada"}
	if s.has(Labels) {
		request.Labels = []string{"preview", "needs work"}
	}
	number, err := s.Fake.OpenPullRequest(request)
	must(t, err)
	want := controlplane.PullRequest{Number: number, Head: head, Branch: "work", Base: "main", Author: "ada", Labels: request.Labels, Open: true}
	s.samePull(t, want)

	want.Head = s.push(t, "work", map[string]string{"a": "three\n"})
	s.samePull(t, want)
	must(t, s.Fake.ClosePullRequest(number))
	want.Open = false
	s.samePull(t, want)

	if !s.has(Forks) {
		return
	}
	fork, err := s.Fake.OpenPullRequest(PullRequest{Head: "main", Base: "main", Author: "mallory", Fork: true})
	must(t, err)
	if got, err := s.PullRequest(t.Context(), s.Repository, fork); err != nil || !got.Fork || got.Author != "mallory" || got.Number != fork {
		t.Errorf("a pull request from a fork is %+v, %v", got, err)
	}
}

func (s *suite) samePull(t *testing.T, want controlplane.PullRequest) {
	t.Helper()
	got, err := s.PullRequest(t.Context(), s.Repository, want.Number)
	slices.Sort(got.Labels)
	slices.Sort(want.Labels)
	labels := slices.Equal(got.Labels, want.Labels)
	got.Labels, want.Labels = nil, nil
	if err != nil || !labels || !samePull(got, want) {
		t.Errorf("the pull request is %+v, %v; want %+v", got, err, want)
	}
}

func samePull(a, b controlplane.PullRequest) bool {
	return a.Number == b.Number && a.Head == b.Head && a.Branch == b.Branch && a.Base == b.Base && a.Fork == b.Fork && a.Author == b.Author && a.Open == b.Open
}

func (s *suite) permission(t *testing.T) {
	s.push(t, "main", map[string]string{"a": "b"})
	for login, want := range map[string]controlplane.Permission{
		"reader": controlplane.PermissionRead, "writer": controlplane.PermissionWrite, "owner": controlplane.PermissionAdmin,
	} {
		s.Fake.Grant(login, want)
		if got, err := s.Permission(t.Context(), s.Repository, login); err != nil || got != want {
			t.Errorf("%s may %d, %v; want %d", login, got, err, want)
		}
	}
	// Whoever is unknown may nothing; a login is no path.
	for _, login := range []string{"nobody", "../writer", "writer/permission?x=", "writer/../writer", "wri ter", "writer#", ".."} {
		got, err := s.Permission(t.Context(), s.Repository, login)
		if got != controlplane.PermissionNone {
			t.Errorf("%s may %d, %v", login, got, err)
		}
	}
	s.Fake.Grant("writer", controlplane.PermissionNone)
	if got, err := s.Permission(t.Context(), s.Repository, "writer"); err != nil || got != controlplane.PermissionNone {
		t.Errorf("who was sent away may %d, %v", got, err)
	}
}

func (s *suite) notFound(t *testing.T) {
	c := s.push(t, "main", map[string]string{"a": "b"})
	missing := controlplane.Commit(strings.Repeat("ab", 20))
	_, err := s.Archive(t.Context(), s.Repository, missing)
	s.is(t, "the archive of no commit", err, controlplane.ErrNotFound)
	_, err = s.Head(t.Context(), s.Repository, "missing")
	s.is(t, "the head of no branch", err, controlplane.ErrNotFound)
	_, err = s.PullRequest(t.Context(), s.Repository, 4711)
	s.is(t, "no pull request", err, controlplane.ErrNotFound)
	s.is(t, "a comment on no pull request", s.Comment(t.Context(), s.Repository, 4711, "plan", "x"), controlplane.ErrNotFound)

	elsewhere := s.Repository[:strings.LastIndex(string(s.Repository), "/")] + "/elsewhere"
	for what, err := range s.calls(t.Context(), elsewhere, c, 1) {
		// A provider that tells strangers nothing says one for the other.
		if !errors.Is(err, controlplane.ErrNotFound) && !errors.Is(err, controlplane.ErrDenied) {
			t.Errorf("%s of a repository out of reach: %v", what, err)
		}
	}
}
