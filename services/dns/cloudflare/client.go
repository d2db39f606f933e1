// Package cloudflare keeps DNS records and tunnel rules at Cloudflare.
// https://developers.cloudflare.com/api/
package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"skep/services/dns/httpapi"
)

// API is Cloudflare's, version 4.
const API = "https://api.cloudflare.com/client/v4"

// Client calls the API with a token.
type Client struct {
	api *httpapi.Client
}

// NewClient takes the API's URL and a token. For records the token needs Zone
// Read and DNS Edit on the zone, for a tunnel Cloudflare Tunnel Edit on the
// account.
func NewClient(base, token string) (*Client, error) {
	if token == "" {
		return nil, errors.New("an API token for Cloudflare is missing")
	}
	if err := httpapi.CheckURL(base); err != nil {
		return nil, fmt.Errorf("API of Cloudflare: %w", err)
	}
	return &Client{api: &httpapi.Client{
		Base: base,
		HTTP: httpapi.NewHTTP(nil),
		Authorize: func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+token)
		},
	}}, nil
}

// envelope is around every answer.
type envelope struct {
	Success    bool            `json:"success"`
	Errors     []apiError      `json:"errors"`
	Result     json.RawMessage `json:"result"`
	ResultInfo struct {
		Page       int `json:"page"`
		TotalPages int `json:"total_pages"`
	} `json:"result_info"`
}

type apiError struct {
	Code    int        `json:"code"`
	Message string     `json:"message"`
	Chain   []apiError `json:"error_chain"`
}

// Error is what the API says is wrong.
type Error struct {
	Codes []int
	text  string
}

func (e *Error) Error() string { return e.text }

// Is compares error codes: errors.Is(err, Code(81044)).
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	for _, c := range e.Codes {
		if ok && c == int(code) {
			return true
		}
	}
	return false
}

// Code is one of the API's error codes.
type Code int

func (c Code) Error() string { return fmt.Sprintf("Cloudflare error %d", int(c)) }

const (
	codeNoRecord        Code = 81044
	codeRecordExists    Code = 81057
	codeIdenticalExists Code = 81058
)

// call decodes the result and returns the number of pages there are.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) (pages int, err error) {
	var e envelope
	err = c.api.Call(ctx, method, path, query, in, &e)
	var status *httpapi.Error
	if errors.As(err, &status) {
		return 0, explain(status)
	}
	if err != nil {
		return 0, err
	}
	if !e.Success {
		return 0, describe(&httpapi.Error{Method: method, Path: path, Status: http.StatusOK}, e.Errors)
	}
	if out != nil {
		if err := json.Unmarshal(e.Result, out); err != nil {
			return 0, fmt.Errorf("%s %s: the result is not what the API promises: %w", method, path, err)
		}
	}
	return e.ResultInfo.TotalPages, nil
}

// explain reads the errors out of an answer, which may be no JSON at all when
// it comes from the edge and not from the API.
func explain(status *httpapi.Error) error {
	var e envelope
	_ = json.Unmarshal(status.Body, &e) // without it the status has to do
	return describe(status, e.Errors)
}

func describe(status *httpapi.Error, list []apiError) error {
	e := &Error{}
	var texts []string
	var add func([]apiError)
	add = func(list []apiError) {
		for _, a := range list {
			e.Codes = append(e.Codes, a.Code)
			texts = append(texts, fmt.Sprintf("%s (%d)", a.Message, a.Code))
			add(a.Chain)
		}
	}
	add(list)
	e.text = status.Error()
	if len(texts) > 0 {
		e.text += ": " + strings.Join(texts, "; ")
	}
	return e
}
