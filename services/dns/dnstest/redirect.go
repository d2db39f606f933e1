package dnstest

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// Redirect is an API that sends every request to another server. It returns
// its URL, and whether anybody came to the other.
func Redirect(t testing.TB) (url string, reached func() bool) {
	t.Helper()
	var came atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { came.Store(true) }))
	t.Cleanup(other.Close)
	api := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusFound))
	t.Cleanup(api.Close)
	return api.URL, came.Load
}
