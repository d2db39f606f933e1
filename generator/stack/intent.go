package stack

import (
	"time"

	"skep/generator/problem"
	"skep/secrets"
)

// DockerAPI is what a service may ask the Docker API.
type DockerAPI struct {
	// Read are sections of the API that may be read, in the proxy's spelling:
	// containers, events, services, ...
	Read []string
	// Write are single endpoints, "POST /services/{id}/update".
	Write []string
	// OwnStack hides what belongs to other stacks.
	OwnStack bool
	Pos      problem.Position
}

// File is a file that a service finds at Target.
type File struct {
	Source  string // as the stack file names it; empty for inline content
	Content []byte
	// Secret is set when the content holds references.
	Secret *secrets.Template
	Target string
	Mode   *uint32
	UID    string
	GID    string
	Pos    problem.Position
}

// Job runs to completion, once per content.
type Job struct {
	Before []ServiceName // services that wait for it
	Pos    problem.Position
}

// Homepage is a link on the dashboard.
type Homepage struct {
	Off         bool
	Group       string
	Name        string
	Icon        string
	Href        string
	Description string
	Weight      int
	Widget      map[string]string
	Pos         problem.Position
}

// Monitor is an uptime check.
type Monitor struct {
	Off      bool
	Name     string
	Type     string // http, keyword, port, ping
	Path     string
	URL      string
	Keyword  string
	Interval time.Duration
	Pos      problem.Position
}

// Metrics is a Prometheus scrape.
type Metrics struct {
	Port uint16
	Path string
	Pos  problem.Position
}
