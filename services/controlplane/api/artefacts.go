package api

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"skep/services/controlplane"
)

// Artefact is a file that a run left behind.
type Artefact struct {
	Name    string    `json:"name"`
	Media   string    `json:"media" doc:"The type that the run gave it"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	Created time.Time `json:"created"`
}

func showArtefact(f controlplane.Artefact) Artefact {
	return Artefact{Name: f.Name, Media: f.Media, Size: f.Size, SHA256: hex.EncodeToString(f.SHA256[:]), Created: f.Created.UTC()}
}

// File is an artefact's content.
type File struct {
	ContentType        string `header:"Content-Type"`
	ContentDisposition string `header:"Content-Disposition"`
	Digest             string `header:"Repr-Digest"`
	Body               []byte
}

func (a *API) artefactRoutes() {
	register(a, operation{
		id: "artefact.list", method: http.MethodGet, path: "/runs/{id}/artefacts", summary: "List the files that a run left", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *struct {
		ByRun
		Paging
	}) (*Reply[Page[Artefact]], error) {
		if _, err := a.options.Store.Run(ctx, in.ID); err != nil {
			return nil, err
		}
		found, err := a.options.Store.ListArtefacts(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return sorted(in.Paging, filters("artefacts", string(in.ID)), found, func(f controlplane.Artefact) string { return f.Name }, showArtefact)
	})
	register(a, operation{
		id: "artefact.get", method: http.MethodGet, path: "/runs/{id}/artefacts/{artefact}", summary: "Fetch a file that a run left",
		scope: controlplane.ScopeRead, timeout: time.Minute, content: stream("application/octet-stream", "The file, to be saved"),
	}, func(ctx context.Context, in *struct {
		ByRun
		Artefact string `path:"artefact" maxLength:"200"`
	}) (*File, error) {
		f, content, err := a.options.Store.Artefact(ctx, in.ID, in.Artefact)
		if err != nil {
			return nil, err
		}
		return &File{
			ContentType: mediaType(f.Media), Body: content,
			ContentDisposition: attachment(f.Name),
			Digest:             "sha-256=:" + base64.StdEncoding.EncodeToString(f.SHA256[:]) + ":", // RFC 9530
		}, nil
	})
}

// mediaType is what the run said, if it is a type at all.
func mediaType(said string) string {
	kind, parameters, err := mime.ParseMediaType(said)
	if err == nil {
		if clean := mime.FormatMediaType(kind, parameters); clean != "" && strings.Contains(kind, "/") {
			return clean
		}
	}
	return "application/octet-stream"
}

// attachment has a browser save the file: a worker wrote it, and it must not
// run as a page of this host.
func attachment(name string) string {
	if header := mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(name)}); header != "" {
		return header
	}
	return "attachment"
}
