package dns

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Cluster is the name that owns records. Two clusters that share a zone need
// two names.
type Cluster string

var clusterName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,39}$`)

// ParseCluster reads a cluster's name.
func ParseCluster(s string) (Cluster, error) {
	switch {
	case s == "":
		return "", errors.New("the cluster has no name: records are marked with it")
	case !clusterName.MatchString(s):
		return "", fmt.Errorf("cluster %q: records are marked with at most 40 lower case letters, digits, dots, - and _", s)
	}
	return Cluster(s), nil
}

// Mark says who made a record. It lies beside the record, in a comment or in a
// TXT record, and is all the state that there is.
type Mark struct {
	Cluster Cluster
	Owner   string // stack/service; for people
	// Gone is when the record was first not wanted any more; zero while it is.
	Gone time.Time
}

// maxMark is what Cloudflare's free plan takes as a comment, in characters.
// https://developers.cloudflare.com/dns/manage-dns-records/reference/record-attributes/
const maxMark = 100

// NewMark is the mark of a record that is wanted. An owner that leaves no room
// for a later Gone is left out.
func NewMark(cluster Cluster, owner string) Mark {
	m := Mark{Cluster: cluster, Owner: owner, Gone: time.Unix(0, 0)}
	if len(m.String()) > maxMark || strings.ContainsAny(owner, " =") {
		m.Owner = ""
	}
	m.Gone = time.Time{}
	return m
}

// String writes the mark: "skep=homelab owner=media/sonarr".
func (m Mark) String() string {
	out := "skep=" + string(m.Cluster)
	if m.Owner != "" {
		out += " owner=" + m.Owner
	}
	if !m.Gone.IsZero() {
		out += " gone=" + m.Gone.UTC().Format(time.RFC3339)
	}
	return out
}

// ParseMark reads a mark; any other text is no mark. Words that it does not
// know are left to who wrote them.
func ParseMark(text string) (Mark, bool) {
	var m Mark
	for i, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		switch {
		case i == 0 && key == "skep":
			cluster, err := ParseCluster(value)
			if err != nil {
				return Mark{}, false
			}
			m.Cluster = cluster
		case i == 0:
			return Mark{}, false
		case key == "owner":
			m.Owner = value
		case key == "gone":
			at, err := time.Parse(time.RFC3339, value)
			if err != nil {
				return Mark{}, false // a mark that somebody has edited is a person's
			}
			m.Gone = at
		}
	}
	return m, m.Cluster != ""
}
