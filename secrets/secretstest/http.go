package secretstest

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/1Password/connect-sdk-go/onepassword"
)

// inlineMax is the largest file that inline_files gives, by default.
const inlineMax = 100 << 10

func (c *Connect) routes() {
	c.mux.HandleFunc("GET /heartbeat", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, ".") })
	c.mux.HandleFunc("GET /health", c.health)
	c.mux.HandleFunc("GET /v1/vaults", c.listVaults)
	c.mux.HandleFunc("GET /v1/vaults/{vault}", c.withVault(func(w http.ResponseWriter, _ *http.Request, v *vault) { reply(w, v.Vault) }))
	c.mux.HandleFunc("GET /v1/vaults/{vault}/items", c.withVault(c.listItems))
	c.mux.HandleFunc("GET /v1/vaults/{vault}/items/{item}", c.withItem(func(w http.ResponseWriter, _ *http.Request, i *onepassword.Item) { reply(w, c.stated(i)) }))
	c.mux.HandleFunc("GET /v1/vaults/{vault}/items/{item}/files", c.withItem(c.listFiles))
	c.mux.HandleFunc("GET /v1/vaults/{vault}/items/{item}/files/{file}", c.withItem(c.getFile))
	c.mux.HandleFunc("GET /v1/vaults/{vault}/items/{item}/files/{file}/content", c.withItem(c.getContent))
}

// ServeHTTP counts, spoils what is to be spoilt, checks the token and answers.
func (c *Connect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	open := r.URL.Path == "/health" || r.URL.Path == "/heartbeat"
	c.mu.Lock()
	if !open {
		c.requests = append(c.requests, r.Method+" "+r.URL.RequestURI())
	}
	fault := c.fault(r.URL.Path)
	c.mu.Unlock()

	select {
	case <-time.After(fault.Delay):
	case <-r.Context().Done():
		return
	}
	switch {
	case fault.Cut:
		panic(http.ErrAbortHandler)
	case fault.Status != 0:
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
		}
		refuse(w, fault.Status, fault.Message)
		return
	}
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !open && (!bearer || subtle.ConstantTimeCompare([]byte(token), []byte(c.token)) != 1) {
		refuse(w, http.StatusUnauthorized, "Invalid token signature")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mux.ServeHTTP(w, r)
}

// fault is what spoils a request. Callers hold mu.
func (c *Connect) fault(path string) Fault {
	for i := range c.faults {
		f := &c.faults[i]
		if strings.Contains(path, f.Path) && (f.Times == 0 || f.used < f.Times) {
			f.used++
			return *f
		}
	}
	return Fault{}
}

func (c *Connect) health(w http.ResponseWriter, _ *http.Request) {
	type dependency struct {
		Service string `json:"service"`
		Status  string `json:"status"`
		Message string `json:"message,omitempty"`
	}
	dependencies := []dependency{{Service: "sqlite", Status: "ACTIVE", Message: "Connected to database"}}
	for _, service := range slices.Sorted(maps.Keys(c.notReady)) {
		if status := c.notReady[service]; status != "" {
			dependencies = append(dependencies, dependency{Service: service, Status: status})
		}
	}
	if c.notReady["sync"] == "" {
		dependencies = append(dependencies, dependency{Service: "sync", Status: "ACTIVE"})
	}
	reply(w, map[string]any{"name": "1Password Connect API", "version": "1.7.3", "dependencies": dependencies})
}

func (c *Connect) listVaults(w http.ResponseWriter, r *http.Request) {
	match, ok := filter(w, r, "name", "title") // the SDKs ask for the title
	if !ok {
		return
	}
	list := []onepassword.Vault{}
	for _, v := range c.vaults {
		if !v.hidden && match(v.Name) {
			list = append(list, v.Vault)
		}
	}
	reply(w, list)
}

func (c *Connect) listItems(w http.ResponseWriter, r *http.Request, v *vault) {
	match, ok := filter(w, r, "title")
	if !ok {
		return
	}
	list := []statedItem{}
	for _, i := range v.items {
		if match(i.Title) {
			summary := c.stated(i)
			summary.Sections, summary.Fields, summary.Files = nil, nil, nil
			list = append(list, summary)
		}
	}
	reply(w, list)
}

// statedItem has what the SDK's item leaves out.
type statedItem struct {
	onepassword.Item
	State string `json:"state,omitempty"`
}

func (c *Connect) stated(i *onepassword.Item) statedItem { return statedItem{*i, c.states[i.ID]} }

func (c *Connect) listFiles(w http.ResponseWriter, r *http.Request, i *onepassword.Item) {
	list := []any{}
	for _, f := range i.Files {
		body, ok := described(w, r, f)
		if !ok {
			return
		}
		list = append(list, body)
	}
	reply(w, list)
}

func (c *Connect) getFile(w http.ResponseWriter, r *http.Request, i *onepassword.Item) {
	if f := file(w, r, i); f != nil {
		if body, ok := described(w, r, f); ok {
			reply(w, body)
		}
	}
}

func (c *Connect) getContent(w http.ResponseWriter, r *http.Request, i *onepassword.Item) {
	if f := file(w, r, i); f != nil {
		content, _ := f.Content()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", f.Name))
		_, _ = w.Write(content)
	}
}

func file(w http.ResponseWriter, r *http.Request, i *onepassword.Item) *onepassword.File {
	id := r.PathValue("file")
	n := slices.IndexFunc(i.Files, func(f *onepassword.File) bool { return f.ID == id })
	if n < 0 {
		refuse(w, http.StatusNotFound, "file "+id+" not found")
		return nil
	}
	return i.Files[n]
}

// described is a file's details, with its content if the request asks for it.
func described(w http.ResponseWriter, r *http.Request, f *onepassword.File) (any, bool) {
	if inline, _ := strconv.ParseBool(r.URL.Query().Get("inline_files")); !inline {
		return f, true
	}
	content, _ := f.Content()
	if len(content) > inlineMax {
		refuse(w, http.StatusRequestEntityTooLarge, "File is too large to inline in request")
		return nil, false
	}
	return struct {
		*onepassword.File
		Content []byte `json:"content"`
	}{f, content}, true
}

var identifier = regexp.MustCompile(`^[a-z0-9]{26}$`)

func (c *Connect) withVault(next func(http.ResponseWriter, *http.Request, *vault)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("vault")
		if !identifier.MatchString(id) {
			refuse(w, http.StatusBadRequest, "Invalid Vault UUID")
			return
		}
		for _, v := range c.vaults {
			switch {
			case v.ID != id:
			case v.hidden:
				refuse(w, http.StatusForbidden, "vault "+id+" is not in scope")
				return
			default:
				next(w, r, v)
				return
			}
		}
		refuse(w, http.StatusNotFound, "vault "+id+" not found")
	}
}

func (c *Connect) withItem(next func(http.ResponseWriter, *http.Request, *onepassword.Item)) http.HandlerFunc {
	return c.withVault(func(w http.ResponseWriter, r *http.Request, v *vault) {
		id := r.PathValue("item")
		if !identifier.MatchString(id) {
			refuse(w, http.StatusBadRequest, "Invalid Item UUID")
			return
		}
		for _, i := range v.items {
			if i.ID == id {
				next(w, r, i)
				return
			}
		}
		refuse(w, http.StatusNotFound, "item "+id+" not found")
	})
}

// equals is the one SCIM filter that Connect takes: attribute eq "value".
var equals = regexp.MustCompile(`^(\w+) eq "((?:[^"\\]|\\.)*)"$`)

func filter(w http.ResponseWriter, r *http.Request, attributes ...string) (func(string) bool, bool) {
	text := r.URL.Query().Get("filter")
	if text == "" {
		return func(string) bool { return true }, true
	}
	m := equals.FindStringSubmatch(text)
	if m == nil || !slices.Contains(attributes, m[1]) {
		refuse(w, http.StatusBadRequest, "Invalid filter")
		return nil, false
	}
	want, err := strconv.Unquote(`"` + m[2] + `"`)
	if err != nil {
		refuse(w, http.StatusBadRequest, "Invalid filter")
		return nil, false
	}
	return func(s string) bool { return s == want }, true
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(onepassword.Error{StatusCode: status, Message: message})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("1Password-Connect-Version", "1.7.3")
	_ = json.NewEncoder(w).Encode(v)
}
