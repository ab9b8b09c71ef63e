package peer;

import org.apache.avro.specific.SpecificRecord;

/** One record to write, and where. */
record Decision(String topic, SpecificRecord record) {}
