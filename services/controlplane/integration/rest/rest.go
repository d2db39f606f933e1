// Package rest makes calls that are answered in JSON, for the providers whose API is called without
// a library.
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"skep/services/controlplane/integration"
)

// API is one API.
type API struct {
	Base *url.URL     // of integration.ParseBase
	HTTP *http.Client // of integration.NewHTTP
	// Check is an error for an answer that is no success, and closes its body
	// then. Nil: integration.CheckResponse.
	Check func(*http.Response) error
}

// Path joins segments, each escaped as a whole: group/name becomes one segment.
// What would leave the path is refused by Call.
func Path(segments ...string) string {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
	}
	return strings.Join(escaped, "/")
}

// Call sends in as JSON, unless it is nil, and decodes the answer into out,
// unless that is nil. path is of Path.
func (a API) Call(ctx context.Context, method, path string, query url.Values, in, out any) (http.Header, error) {
	var content []byte
	if in != nil {
		var err error
		if content, err = json.Marshal(in); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return a.call(ctx, method, path, query, "application/json", content, out)
}

// Form posts a form, as OAuth has it, and decodes the answer into out.
func (a API) Form(ctx context.Context, path string, form url.Values, out any) error {
	_, err := a.call(ctx, http.MethodPost, path, nil, "application/x-www-form-urlencoded", []byte(form.Encode()), out)
	return err
}

func (a API) call(ctx context.Context, method, path string, query url.Values, kind string, content []byte, out any) (http.Header, error) {
	response, err := a.do(ctx, method, path, query, "application/json", kind, content)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if out == nil {
		return response.Header, nil
	}
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		return nil, fmt.Errorf("%s %s: the answer is not what the API promises: %w", method, path, err)
	}
	return response.Header, nil
}

// Open is the body of an answer to a GET. The caller closes it.
func (a API) Open(ctx context.Context, path string, query url.Values, accept string) (io.ReadCloser, error) {
	response, err := a.do(ctx, http.MethodGet, path, query, accept, "", nil)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

func (a API) do(ctx context.Context, method, path string, query url.Values, accept, kind string, content []byte) (*http.Response, error) {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return nil, fmt.Errorf("%s %s: a part of the path is empty or leads out of it", method, path)
		}
	}
	address, err := url.Parse(a.Base.String() + path)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, integration.Cause(err))
	}
	address.RawQuery = query.Encode()
	var body io.Reader
	if content != nil {
		body = bytes.NewReader(content)
	}
	request, err := http.NewRequestWithContext(ctx, method, address.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, integration.Cause(err))
	}
	request.Header.Set("Accept", accept)
	if content != nil {
		request.Header.Set("Content-Type", kind)
	}
	response, err := a.HTTP.Do(request)
	if err != nil {
		return nil, integration.Cause(err) // which names the request
	}
	check := a.Check
	if check == nil {
		check = integration.CheckResponse
	}
	if err := check(response); err != nil {
		return nil, err
	}
	return response, nil
}
